"""Writers of one SQLite file: in the order in which they came, over processes, and nobody waits for the dead."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.errors import DatabaseUnavailable
from gateway.storage.turns import Turns
from tests.patience import patient

HOLD = """
import asyncio, sys
from gateway.storage.turns import Turns
from tests.patience import patient
async def hold():
    async with Turns(sys.argv[1], 5.0).mine():
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(hold())
"""


async def test_writers_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    queues = [Turns(str(tmp_path / "turn"), 5.0) for _ in range(2)]  # as of two workers
    served: list[int] = []

    async def write(number: int) -> None:
        async with queues[number % 2].mine():
            served.append(number)
            await asyncio.sleep(0.01)

    async with queues[0].mine():
        waiting = []
        for number in range(8):
            waiting.append(asyncio.create_task(write(number)))
            await asyncio.sleep(0.02)
        assert served == []
    await asyncio.gather(*waiting)
    assert served == list(range(8))
    for queue in queues:
        queue.close()


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_killed_writer_gives_its_turn_back(tmp_path: Path) -> None:
    path = str(tmp_path / "turn")
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLD, path, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    turns = Turns(path, 10.0)
    waiting = asyncio.create_task(_enter(turns))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    await asyncio.wait_for(waiting, patient(1))
    turns.close()


async def test_whoever_stops_waiting_leaves_the_turn_to_the_next_and_no_file_open(tmp_path: Path) -> None:
    turns = Turns(str(tmp_path / "turn"), 0.05)
    before = _open_files()
    async with turns.mine():
        with pytest.raises(DatabaseUnavailable, match="nothing was written"):
            await _enter(turns)
        cut_off = asyncio.create_task(_enter(turns))
        await asyncio.sleep(0.01)
        cut_off.cancel()
    await asyncio.sleep(0.1)
    await asyncio.wait_for(_enter(turns), patient(1))
    assert _open_files() == before
    turns.close()


async def _enter(turns: Turns) -> float:
    """Take one turn; how long that took, in seconds."""
    begun = time.monotonic()
    async with turns.mine():
        return time.monotonic() - begun


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancellation_that_comes_with_the_turn_is_not_lost(tmp_path: Path, steps: int) -> None:
    turns = Turns(str(tmp_path / "turn"), 5.0)
    async with turns.mine():
        waiting = asyncio.create_task(_enter(turns))
        await asyncio.sleep(0.05)
    time.sleep(0.05)  # noqa: ASYNC251  (the turn has come, and the loop does not know yet)
    for _ in range(steps):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await asyncio.wait_for(_enter(turns), patient(1))
    turns.close()
