"""The training process answers, explains its death, and does not outlive the one who started it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from alignment.errors import AlignmentError
from alignment.jobs.client import TrainerDied, explain_death, trainer_process
from alignment.jobs.contracts import MergeJob


def merge_job(folder: Path) -> MergeJob:
    return MergeJob(base_folder=folder, adapter=folder / "absent", merged_folder=folder / "merged")


async def test_an_error_of_a_job_comes_back_in_its_own_words(tmp_path: Path) -> None:
    async with trainer_process(tmp_path / "trainer.log") as trainer:
        with pytest.raises(AlignmentError, match="holds no LoRA adapter; give the folder of one"):
            await trainer.merge(merge_job(tmp_path))
        with pytest.raises(AlignmentError, match="holds no LoRA adapter"):  # and it works on
            await trainer.merge(merge_job(tmp_path))


async def test_a_killed_process_is_reported_with_what_to_do(tmp_path: Path) -> None:
    async with trainer_process(tmp_path / "trainer.log") as trainer:
        asking = asyncio.create_task(trainer.merge(merge_job(tmp_path)))
        await asyncio.sleep(0.1)
        os.kill(trainer.pid, signal.SIGKILL)
        with pytest.raises(TrainerDied, match="ran out of memory; lower pairs_per_step or max_length_tokens"):
            await asking


@pytest.mark.parametrize(
    ("returncode", "told"),
    [
        (-9, "was killed during train"),
        (-11, "ended by signal 11 during train"),
        (1, "ended with status 1 during train"),
    ],
)
def test_every_death_is_explained(returncode: int, told: str) -> None:
    assert told in explain_death(returncode, "train", Path("trainer.log"))


async def test_the_process_ends_with_its_block(tmp_path: Path) -> None:
    async with trainer_process(tmp_path / "trainer.log") as trainer:
        pid = trainer.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_the_process_ends_when_its_parent_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-m", "alignment.jobs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 3
