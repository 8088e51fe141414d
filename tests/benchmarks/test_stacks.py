"""A profile counts threads at work, by function, and not those that wait."""

from benchmarks.gateway.processes import CpuTime
from benchmarks.gateway.stacks import NO_OWN_FUNCTION, Stacks, package_of, python_tables, thread_table

RAW = """main (gateway/worker.py:50);uv_run (core.c:464);feed (gateway/relay/lane.py:80);write (libc.so.6) 30
main (gateway/worker.py:50);uv_run (core.c:464);feed (gateway/relay/lane.py:80);decode (msgspec/_core.cpython-311.so) 20
main (gateway/worker.py:50);uv_run (core.c:464);epoll_pwait (libc.so.6) 40
_work (gateway/storage/writers.py:62);PyThread_acquire_lock_timed (libpython3.11.so.1.0);0x7e (libc.so.6) 500
watch (gateway/lifeline.py:20);os_read (libpython3.11.so.1.0);read (libc.so.6) 100
"""


def test_threads_that_wait_are_left_out_and_polls_fill_what_cpu_time_leaves():
    busy = Stacks.read(RAW).busy(cpu_samples=60)
    assert busy.by_function() == {
        "write (libc.so.6)": 30,
        "decode (msgspec/_core.cpython-311.so)": 20,
        "epoll_pwait (libc.so.6)": 10,  # 60 samples of CPU, less the 50 that are somebody's work
    }


def test_what_libraries_do_is_counted_for_the_function_of_the_gateway_that_asked_for_it():
    found = Stacks.read(RAW).busy(60).by_own_function()
    assert found == {"feed (gateway/relay/lane.py)": 50, NO_OWN_FUNCTION: 10}


def test_a_frame_belongs_to_its_package():
    assert package_of("feed (gateway/relay/lane.py)") == "gateway/relay"
    assert package_of("execute (sqlalchemy/orm/session.py)") == "sqlalchemy"
    assert package_of("decode (msgspec/_core.cpython-311.so)") == "msgspec"
    assert package_of("uv_run (core.c)") == "libuv"
    assert package_of("write (libc.so.6)") == "libc"


def test_shares_become_microseconds_of_the_measured_cost():
    shown = python_tables(Stacks.read(RAW).busy(50), 100.0, "request", 0.9)
    assert "| 60.0 | 60.0 % | `write (libc.so.6)` |" in shown
    assert "the worker ran at 90 %" in shown


def test_threads_show_what_the_operating_system_says_they_used():
    names = Stacks.read("thread (12): MainThread;run (asyncio/runners.py:86) 5\n").thread_names()
    shown = thread_table({12: CpuTime(0.3, 0.1), 13: CpuTime(0, 0.01), 14: CpuTime(0, 0)}, names, 1000, "request")
    assert shown.splitlines()[3:] == [
        "| 400.0 | 100.0 | MainThread |",
        "| 10.0 | 10.0 | never held the interpreter |",
    ]
