"""Processes are told apart for certain, and ended with everything they started."""

import asyncio
import socket
import sys
from pathlib import Path

import psutil
import pytest

from gateway.agent.engine_log import EngineLog
from gateway.agent.process import EngineProcess, born, end_strays, free_port
from gateway.agent.record import EngineRecord, read_record, write_record
from gateway.engines.protocol import Launch
from tests.gateway.agent.lab import eventually

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {child!r}]).pid, flush=True)
time.sleep(60)
"""
STUBBORN_CHILD = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def spawn(tmp_path: Path, child: str = "import time; time.sleep(60)") -> EngineProcess:
    launch = Launch((sys.executable, "-c", PARENT.format(child=child)), {})
    return EngineProcess.spawn(launch, tmp_path / "log", tmp_path / "record.json")


async def child_of(tmp_path: Path) -> int:
    async def said() -> str:
        return (tmp_path / "log").read_text()

    return int(await eventually(said))


async def test_stop_ends_the_process_and_its_children(tmp_path: Path) -> None:
    process = spawn(tmp_path)
    child = await child_of(tmp_path)
    await process.stop()
    assert not process.alive()
    assert born(child) is None


async def test_children_of_a_dead_leader_are_ended_by_force_if_need_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = spawn(tmp_path, STUBBORN_CHILD)
    child = await child_of(tmp_path)
    await asyncio.sleep(0.3)
    psutil.Process(process.pid).kill()
    again = EngineProcess(process.pid, process.born_at)
    monkeypatch.setattr("gateway.agent.process.TERM_SECONDS", 0.2)
    await again.stop()
    assert not again.alive()
    assert born(child) is None


async def test_another_process_under_the_same_id_is_left_alone(tmp_path: Path) -> None:
    process = spawn(tmp_path)
    stranger = EngineProcess(process.pid, process.born_at - 1)
    assert not stranger.alive()
    await stranger.stop()
    assert process.alive()
    await process.stop()


async def test_stray_is_found_by_the_record_in_its_environment(tmp_path: Path) -> None:
    process = spawn(tmp_path)
    await child_of(tmp_path)
    await end_strays(tmp_path / "another.json")
    assert process.alive()
    await end_strays(tmp_path / "record.json")
    assert not process.alive()


def test_free_port_is_the_preferred_one_unless_it_is_taken() -> None:
    port = free_port(None)
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port(port) != port


def test_record_is_read_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record = EngineRecord(1, 2.0, 3, "rel_a", "serving", ("rel_b",), "digest")
    write_record(path, record)
    assert read_record(path) == record
    path.write_text("{")
    assert read_record(path) is None
    path.write_text('{"pid": 1}')
    assert read_record(path) is None


def test_log_quotes_the_complaints_of_the_present_process_only(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "logs" / "engine.log")
    log.begin()
    log.path.write_text("ValueError: of the process before\n")
    log.begin()
    with log.path.open("a") as file:
        file.write("hello\nOSError: no space left\nbye\n")
    assert log.complaint() == "OSError: no space left"
