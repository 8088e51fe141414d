"""What is shown of a run while it goes: pace and time left, on a terminal and elsewhere, and as curves."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alignment.training.event_file import EventFile
from alignment.training.progress import Bar, Lines, PaceMeter, ProgressWatcher, shown_on
from tests.alignment.trainer_child import run

FIGURES = {"loss": 1.5, "rewards/accuracy": 0.75, "pairs_per_second": 4.0, "tokens_per_second": 1000.0}


def test_the_pace_is_that_of_recent_steps_and_the_time_left_that_of_all() -> None:
    meter = PaceMeter(begun_at=100.0, done=10, steps=20)
    # Steps of 4 pairs: the first takes 1 s with 100 tokens, the second 4 s with 800 tokens; 10 s pass in all.
    meter.pace({"pairs_per_second": 4.0, "tokens_per_second": 100.0}, 11, 101.0)
    pace = meter.pace({"pairs_per_second": 1.0, "tokens_per_second": 200.0}, 12, 110.0)
    assert pace.pairs_per_second == pytest.approx(8 / 5)
    assert pace.tokens_per_second == pytest.approx(900 / 5)
    assert pace.seconds_left == pytest.approx(8 * 10 / 2)


def follow(watcher: ProgressWatcher, clock: list[float], seconds_a_step: float, steps: int) -> None:
    state = SimpleNamespace(global_step=0, max_steps=steps)
    watcher.on_train_begin(None, state, None)
    for step in range(1, steps + 1):
        clock[0] += seconds_a_step
        state.global_step = step
        watcher.on_log(None, state, None, FIGURES)
    watcher.on_train_end(None, state, None)


def test_where_nothing_can_be_redrawn_a_line_comes_every_ten_seconds_and_at_the_end() -> None:
    clock, out = [0.0], io.StringIO()
    follow(Lines(Console(file=out), lambda: clock[0]), clock, seconds_a_step=4.0, steps=8)
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"step {step} of 8" for step in (1, 4, 7, 8)]
    assert lines[0] == "step 1 of 8  loss 1.500  accuracy 0.75  4 pairs/s  1,000 tokens/s  0:00:28 left"


def test_the_bar_shows_pace_and_time_left() -> None:
    clock, out = [0.0], io.StringIO()
    console = Console(file=out, force_terminal=True, width=150)
    follow(Bar(console, lambda: clock[0]), clock, seconds_a_step=4.0, steps=2)
    assert "loss 1.500  accuracy 0.75  4 pairs/s  1,000 tokens/s  0:00:00 left" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_a_terminal_gets_the_bar_and_a_file_gets_lines() -> None:
    assert isinstance(shown_on(Console(force_terminal=True)), Bar)
    assert isinstance(shown_on(Console(file=io.StringIO())), Lines)


def test_standard_output_is_json_alone_and_progress_stands_elsewhere(words: list[str], tmp_path: Path) -> None:
    ended = run([*words, "--max-steps", "3", "--out", str(tmp_path / "out"), "--json"], tmp_path / "log")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["steps"] == 3
    assert "step 3 of 3  loss " in ended.err


def test_tensorboard_has_every_figure_of_the_metrics_file_and_of_the_held_out_rows(
    words: list[str], holdout_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--method", "orpo-kl", "--max-steps", "4", "--holdout", str(holdout_file), "--evaluate-every", "2"]
    assert run([*words, *asked, "--out", str(out)], tmp_path / "log").status == 0
    orpo = ["--max-steps", "1", "--out", str(tmp_path / "orpo")]
    assert run([*words, *orpo], tmp_path / "log").status == 0
    curves = EventAccumulator(str(out / "tensorboard")).Reload()
    tags = set(curves.Tags()["scalars"]) | set(
        EventAccumulator(str(tmp_path / "orpo" / "tensorboard")).Reload().Tags()["scalars"]
    )
    for name in (
        "loss", "nll", "log_odds_ratio", "rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/accuracy",
        "kl", "grad_norm", "learning_rate", "tokens_per_second", "pairs_per_second", "epoch",
    ):  # fmt: skip
        assert f"train/{name}" in tags
    for prefix, file in (("train", "metrics.jsonl"), ("holdout", "holdout.jsonl")):
        written = [json.loads(line) for line in (out / file).read_text().splitlines()]
        assert [line["step"] for line in written] == ([1, 2, 3, 4] if prefix == "train" else [2, 4])
        for name in written[0].keys() - {"step"}:
            drawn = [(event.step, event.value) for event in curves.Scalars(f"{prefix}/{name}")]
            assert drawn == [(line["step"], pytest.approx(line[name], rel=1e-6, abs=1e-9)) for line in written]


def test_steps_done_anew_replace_what_a_killed_process_drew(tmp_path: Path) -> None:
    killed = EventFile(tmp_path, purge_step=1)
    for step in (1, 2, 3):
        killed.add("train", {"loss": float(step)}, step)
    resumed = EventFile(tmp_path, purge_step=2)
    resumed.add("train", {"loss": 20.0}, 2)
    curves = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("train/loss")] == [(1, 1.0), (2, 20.0)]
