"""CPU time is that of the whole tree, on the core it was given, children that ended included."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.gateway.processes import Cores, cpu_time, pinned, rss_mb, tree, with_command

BURN = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_was_reaped_still_counts():
    burn = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n"
    code = f"{burn}print('x', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert tree(process.pid) == [process.pid]
            assert cpu_time([process.pid]).total >= 0.4
        finally:
            process.kill()


def test_a_tree_is_pinned_to_its_core_and_gone_after_the_block(tmp_path):
    core = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(60) # a child'])"
    with pinned([sys.executable, "-c", code], core, tmp_path / "log", os.environ, tmp_path) as process:
        wait_until(lambda: len(tree(process.pid)) == 2)
        family = tree(process.pid)
        assert all(os.sched_getaffinity(pid) == {core} for pid in family)
        wait_until(lambda: with_command(family, "# a child") and rss_mb(family) > 5)
        assert with_command(family, "sleep(60) # a child")[-1] == family[-1]
    assert os.sched_getaffinity(0) == before
    wait_until(lambda: not any(rss_mb([pid]) for pid in family))


def test_one_core_for_both_is_refused():
    with pytest.raises(SystemExit, match="a core each"):
        Cores(0, 0).check()
