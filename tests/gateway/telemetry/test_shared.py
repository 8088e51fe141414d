"""Any worker shows the sum over all; who is gone is counted once and for all, but is busy with nothing any more."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.shared import Departed, WorkerFiles
from gateway.telemetry.snapshot import RETIRED_SECONDS, PoolReading
from tests.gateway.telemetry.reading import value
from tests.patience import patient

LABELS = {"alias": "assistant", "release": "assistant-1", "key": "laptop"}
CHILD = """
import sys, time
from pathlib import Path
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.shared import WorkerFiles
from gateway.telemetry.snapshot import PoolReading
metrics = Metrics(WorkerFiles(Path(sys.argv[1])), lambda: PoolReading(queue_requests=3, circuits={"r1": "open"}))
meter = metrics.meter("assistant", "assistant-1", "laptop")
for _ in range(5):
    meter.began()
    meter.ended("finished", 10, 20, 0.1, 1.0)
meter.began()
metrics.refused(429, "queue_full")
metrics._write(*metrics._snapshot())
print("written", flush=True)
time.sleep(60)
"""


def start_worker(folder: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def finished(metrics: Metrics) -> float | None:
    return value(metrics, "alignway_requests_total", **LABELS, outcome="finished")


def test_the_sum_over_workers_outlives_a_kill_and_the_gauges_do_not(tmp_path: Path) -> None:
    metrics = Metrics(WorkerFiles(tmp_path), lambda: PoolReading(queue_requests=1, circuits={"r1": "open"}))
    meter = metrics.meter("assistant", "assistant-1", "laptop")
    meter.began()
    meter.ended("finished", 1, 2, None, 0.1)
    child = start_worker(tmp_path)
    try:
        assert finished(metrics) == 6
        assert value(metrics, "alignway_completion_tokens_total", **LABELS) == 102
        assert value(metrics, "alignway_in_flight_requests", **LABELS) == 1
        assert value(metrics, "alignway_queue_requests") == 4
        assert value(metrics, "alignway_engine_circuit_workers", replica="r1", state="open") == 2
        assert value(metrics, "alignway_gateway_workers") == 2
    finally:
        kill(child)
    for _ in range(2):  # it is added once, however often it is looked for
        assert finished(metrics) == 6
        assert value(metrics, "alignway_completion_tokens_total", **LABELS) == 102
        assert value(metrics, "alignway_request_duration_seconds_count", **LABELS) == 6
        assert value(metrics, "alignway_refusals_total", status="429", code="queue_full") == 1
        assert value(metrics, "alignway_in_flight_requests", **LABELS) == 0
        assert value(metrics, "alignway_queue_requests") == 1
        assert value(metrics, "alignway_engine_circuit_workers", replica="r1", state="open") == 1
        assert value(metrics, "alignway_gateway_workers") == 1
    own = metrics._files._name
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{own}.alive", f"{own}.snapshot", "departed", "lock", "labels", "labels.lock",
    }  # fmt: skip


def test_a_worker_killed_between_adding_and_removing_adds_nobody_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(start_worker(tmp_path))
    first = Metrics(WorkerFiles(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as if it died before
        assert finished(first) == 5
    assert len(list(tmp_path.glob("*.snapshot"))) == 2
    first.close()
    second = Metrics(WorkerFiles(tmp_path))
    assert finished(second) == 5
    assert len(list(tmp_path.glob("*.snapshot"))) == 1


def test_all_workers_gone_and_the_next_goes_on_from_their_sum(tmp_path: Path) -> None:
    kill(start_worker(tmp_path))
    kill(start_worker(tmp_path))
    assert finished(Metrics(WorkerFiles(tmp_path))) == 10


def test_what_a_scrape_showed_is_never_taken_back(tmp_path: Path) -> None:
    """What a worker tells of itself is on disk by then, though its last regular snapshot is older."""
    leaving, staying = Metrics(WorkerFiles(tmp_path)), Metrics(WorkerFiles(tmp_path))
    meter = leaving.meter("assistant", "assistant-1", "laptop")
    for _ in range(3):
        meter.began()
        meter.ended("finished", 1, 1, None, 0.1)
    assert finished(leaving) == 3
    leaving._files.close()  # all that a killed process does: its lock is let go
    assert finished(staying) == 3


def test_half_a_snapshot_and_one_of_another_layout_count_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "1-aaaa.snapshot").write_bytes(b"\x96\x01")
    (tmp_path / "2-bbbb.snapshot").write_bytes(b"\x91\x63")
    (tmp_path / "departed").write_bytes(b"nonsense")
    metrics = Metrics(WorkerFiles(tmp_path))
    assert value(metrics, "alignway_gateway_workers") == 1
    assert finished(metrics) is None


async def test_what_the_departed_counted_for_a_retired_release_goes_too(tmp_path: Path) -> None:
    metrics = Metrics(WorkerFiles(tmp_path), lambda: PoolReading(served=frozenset({"assistant-2"})))
    gone = Metrics(WorkerFiles(tmp_path))
    meter = gone.meter("assistant", "assistant-1", "laptop")
    meter.began()
    meter.ended("finished", 1, 1, None, 0.1)
    meter.used_at -= RETIRED_SECONDS + 1
    gone.close()
    assert finished(metrics) is None
    await metrics.sweep()
    assert b"assistant-1" not in metrics._files._departed().snapshot
    assert metrics._files._departed() != Departed()


async def test_a_worker_leaves_snapshots_by_itself_and_rides_out_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.telemetry.metrics.WRITE_SECONDS", 0.01)
    working, looking = Metrics(WorkerFiles(tmp_path)), Metrics(WorkerFiles(tmp_path))
    write, failures = working._files.write, []

    def fail_once(number: int, snapshot: bytes) -> None:
        if not failures:
            failures.append(number)
            raise OSError(28, "No space left on device")
        write(number, snapshot)

    monkeypatch.setattr(working._files, "write", fail_once)
    running = asyncio.create_task(working.run())
    meter = working.meter("assistant", "assistant-1", "laptop")
    meter.began()
    meter.ended("finished", 1, 1, None, 0.1)
    async with asyncio.timeout(10):
        while finished(looking) != 1:
            await asyncio.sleep(0.01)
    assert failures
    running.cancel()


def test_a_label_that_cannot_be_let_in_at_once_is_counted_as_other_until_it_can(tmp_path: Path) -> None:
    metrics, other = Metrics(WorkerFiles(tmp_path)), WorkerFiles(tmp_path)
    with other._locked("labels.lock"):
        began = time.monotonic()
        while_locked = metrics.meter("assistant", "assistant-1", "laptop")
        assert time.monotonic() - began < patient(0.5)
        assert while_locked.labels == ("other", "other", "other")
    afterwards = metrics.meter("assistant", "assistant-1", "laptop")
    assert afterwards.labels == ("assistant", "assistant-1", "laptop")
    assert metrics.meter("assistant", "assistant-1", "laptop") is afterwards
