"""The ends of `alignway train` that nobody wants: status 1, one sentence that says what to do, and nothing taken for
whole that is not."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignment.training.checkpoints import find_newest
from tests.alignment.trainer_child import Ended, Trouble, run, start

CHECKPOINTED = ("--max-steps", "6", "--checkpoint-seconds", "0")


def said(ended: Ended) -> str:
    """The one sentence of a run that failed."""
    assert ended.status == 1, ended
    assert "Traceback" not in ended.err
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.err
    return errors[0]


def weights(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def interrupted(words: list[str], out: Path, log: Path) -> None:
    """A run of 6 steps with a checkpoint after each, killed while it writes its adapter: five and six are whole."""
    trouble = Trouble(killed_at_change=1, folder=out / ".adapter.part")
    ended = run([*words, *CHECKPOINTED, "--out", out], log, trouble)
    assert ended.status == -signal.SIGKILL, ended
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_passed_over_and_named(
    words: list[str], holdout_file: Path, tmp_path: Path, name: str
) -> None:
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    words = [*words, "--holdout", str(holdout_file), "--evaluate-every", "1"]
    assert run([*words, *CHECKPOINTED, "--out", whole], log).status == 0
    interrupted(words, broken, log)
    damaged = broken / "checkpoint-6" / name
    os.truncate(damaged, damaged.stat().st_size // 2)
    ended = run(["--resume", "--out", broken], log)
    assert ended.status == 0, ended.err
    assert f"{damaged} differs from what was sealed: going on from step 5" in ended.err
    assert "going on from step 5" in (broken / "README.md").read_text()
    assert weights(broken) == weights(whole)


def test_a_run_without_a_whole_checkpoint_says_what_to_remove(words: list[str], tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    interrupted(words, out, log)
    for checkpoint in out.glob("checkpoint-*"):
        os.truncate(checkpoint / "optimizer.pt", 10)
    message = said(run(["--resume", "--out", out], log))
    assert message.startswith(f"error: no checkpoint in {out} is whole (")
    assert message.endswith("remove checkpoint-6 and checkpoint-5 there to train from the beginning")
    for checkpoint in out.glob("checkpoint-*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    assert run(["--resume", "--out", out], log).status == 0


@pytest.mark.parametrize("bytes_allowed", [300, 3_000, 20_000, 60_000])
def test_files_that_may_grow_no_further_end_the_run_with_what_to_free(
    words: list[str], tmp_path: Path, bytes_allowed: int
) -> None:
    """As on a full disk. The bounds are met by the run's own file, by its curves, and by two files of a checkpoint."""
    broken, log = tmp_path / "broken", tmp_path / "log"
    ended = run([*words, *CHECKPOINTED, "--out", broken], log, Trouble({resource.RLIMIT_FSIZE: bytes_allowed}))
    check_full(said(ended), broken)
    assert find_newest(broken).newest is None
    assert not (broken / "adapter").exists()
    assert run([*words, *CHECKPOINTED, "--out", broken], log).status == 0


def check_full(message: str, out: Path) -> None:
    assert f"there is no room to write in {out}" in message
    assert "MB free" in message
    way = f"go on: alignway train --resume --out {out}" if (out / "run.json").is_file() else "begin again"
    assert message.endswith(f"then {way}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 440 kB: two checkpoints of the tiny model and not three."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system in memory needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(words: list[str], small_disk: Path, tmp_path: Path) -> None:
    whole, broken, log = tmp_path / "whole", small_disk / "out", tmp_path / "log"
    assert run([*words, *CHECKPOINTED, "--out", whole], log).status == 0
    ended = run([*words, *CHECKPOINTED, "--out", broken], log)
    check_full(said(ended), broken)
    newest = find_newest(broken).newest
    assert newest is not None
    assert f"the checkpoint of step {newest.name[-1]} there is whole" in ended.err
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ended = run(["--resume", "--out", broken], log)
    assert ended.status == 0, ended.err
    assert weights(broken) == weights(whole)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_learning_rate_that_destroys_the_model_ends_with_the_last_good_checkpoint(
    words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wild = [*words, "--learning-rate", "1e30", "--max-steps", "30", "--checkpoint-seconds", "0", "--out", str(out)]
    message = said(run(wild, tmp_path / "log"))
    assert "loss became nan at step 2; lower the learning rate" in message
    assert message.endswith("No good checkpoint had been written yet")
    assert not list(out.glob("checkpoint-*"))
    assert not (out / "adapter").exists()


def with_rows(words: list[str], folder: Path, rows: list[dict[str, str]]) -> list[str]:
    """The same run on other pairs."""
    path = folder / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = words.index("--dataset") + 1
    return [*words[:place], str(path), *words[place + 1 :]]


def test_memory_that_runs_out_makes_smaller_parts_and_says_so(words: list[str], tmp_path: Path) -> None:
    rows = [{"prompt": f"p{number} " * 20, "chosen": "c" * 400, "rejected": f"r{number}" * 150} for number in range(32)]
    long = [*with_rows(words, tmp_path, rows), "--max-steps", "2", "--pairs-per-step", "32"]
    long += ["--tokens-per-batch", "100000", "--out", str(tmp_path / "out")]
    ended = run(long, tmp_path / "log", Trouble(memory_bytes=560 << 20))
    assert ended.status == 0, ended.err
    assert "at most 100,000 tokens at a time" in ended.out
    assert "memory ran out: from then on at most " in ended.out


def test_memory_that_does_not_hold_one_pair_ends_the_run_with_what_to_lower(words: list[str], tmp_path: Path) -> None:
    rows = [{"prompt": "p" * 20_000, "chosen": "c" * 20_000, "rejected": "r" * 20_000}]
    long = [*with_rows(words, tmp_path, rows), "--max-length", "50000", "--out", str(tmp_path / "out")]
    message = said(run(long, tmp_path / "log", Trouble(memory_bytes=400 << 20)))
    assert "memory ran out with a single pair at a time; lower max_length_tokens, turn" in message


def test_a_run_that_stops_gaining_on_held_out_pairs_ends_early(
    words: list[str], pairs_file: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    opposite = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    holdout = tmp_path / "opposite.jsonl"
    holdout.write_text("".join(json.dumps(row) + "\n" for row in opposite))
    early = ["--learning-rate", "0.03", "--lambda", "5", "--max-steps", "40", "--evaluate-every", "2"]
    early += ["--early-stop", "2", "--holdout", str(holdout), "--out", str(tmp_path / "out")]
    ended = run([*words, *early, "--json"], tmp_path / "log")
    assert ended.status == 0, ended.err
    result = json.loads(ended.out)
    losses = [json.loads(line) for line in (tmp_path / "out" / "holdout.jsonl").read_text().splitlines()]
    best = min(losses, key=lambda line: line["loss"])
    assert result["best"] == best
    assert losses[-1]["step"] == best["step"] + 4 < 40
    assert result["reasons"][-1].endswith(f"and the run ended at step {losses[-1]['step']}")


def test_a_folder_in_which_another_process_trains_is_left_alone(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start([*words, "--max-steps", "5000", "--epochs", "1000", "--out", str(out)], tmp_path / "first")
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    message = said(run(["--resume", "--out", str(out)], tmp_path / "log"))
    assert message.startswith(f"error: another process is training in {out}; wait until it ends")
    assert first.is_alive()
    first.kill()
    first.join()
