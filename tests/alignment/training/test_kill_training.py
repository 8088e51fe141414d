"""kill -9 of `alignway train` ten times, at any step and inside any write: it resumes to the same adapter."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alignment.training.checkpoints import find_newest
from tests.alignment import trainer_child
from tests.alignment.trainer_child import Trouble

KILLS = 10
STEPS = 120
KILLED = -signal.SIGKILL


def weights(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def lines(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    path = out / name
    # A line that is being written has no end yet.
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []


def without_pace(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if not name.endswith("_per_second")} for line in found]


def kill_at(step: int, words: list[Any], out: Path, log: Path, seconds: float) -> int | None:
    """Train until so many steps are written down, and a moment longer; then kill."""
    process = trainer_child.start(words, log)
    deadline = time.monotonic() + 120
    while len(lines(out)) < step and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.timeout(900)
def test_ten_kills_at_random_steps_end_in_the_bytes_of_a_run_left_alone(
    words: list[str], holdout_file: Path, tmp_path: Path
) -> None:
    words = [*words, "--max-steps", str(STEPS), "--holdout", str(holdout_file), "--evaluate-every", "5"]
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    assert trainer_child.run([*words, "--out", whole], log).status == 0
    chance = random.Random(20)
    steps = sorted(chance.sample(range(1, STEPS - 20), KILLS))
    # Killed before it wrote down what it was asked for, a run is begun anew; so the first kill comes after a step.
    begun: list[Any] = [*words, "--out", broken]
    for number, step in enumerate(steps):
        asked = ["--resume", "--out", broken] if number else begun
        asked = [*asked, "--checkpoint-seconds", "0.1"]
        assert kill_at(step, asked, broken, log, chance.uniform(0.0, 0.05)) == KILLED
    ended = trainer_child.run(["--resume", "--out", broken], log)
    assert ended.status == 0, ended.err
    assert weights(broken) == weights(whole)
    assert without_pace(lines(broken)) == without_pace(lines(whole))
    assert lines(broken, "holdout.jsonl") == lines(whole, "holdout.jsonl")
    curves = EventAccumulator(str(broken / "tensorboard")).Reload()
    drawn = [(event.step, event.value) for event in curves.Scalars("train/loss")]
    assert drawn == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines(broken)]
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.timeout(600)
def test_a_kill_inside_any_write_leaves_checkpoints_that_are_whole_or_not_there(
    words: list[str], holdout_file: Path, tmp_path: Path
) -> None:
    words = [*words, "--max-steps", "4", "--holdout", str(holdout_file), "--evaluate-every", "1"]
    words += ["--checkpoint-seconds", "0"]
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    assert trainer_child.run([*words, "--out", whole], log).status == 0
    chance = random.Random(4)
    troubles = [Trouble(killed_at_change=chance.randrange(1, 90), folder=broken) for _ in range(8)]
    troubles += [Trouble(half_written=number, folder=broken) for number in (1, 2, 3, 4)]
    killed = 0
    for trouble in troubles:
        killed += trainer_child.run([*words, "--out", broken], log, trouble).status == KILLED
        if list(broken.glob("checkpoint-*")):
            assert find_newest(broken).notes == ()  # nothing damaged looks whole
    assert killed >= 10
    ended = trainer_child.run([*words, "--out", broken], log)
    assert ended.status == 0, ended.err
    assert weights(broken) == weights(whole)
    assert without_pace(lines(broken)) == without_pace(lines(whole))
