"""Held-out rows: evaluated now and then, the best adapter kept, the run ended when it stops gaining."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from alignment.errors import TrainingStopped
from alignment.models import load_model, load_renderer
from alignment.pairs.pair import PreferencePair
from alignment.pairs.tokens import TokenPair
from alignment.training.holdout import held_out
from alignment.training.loop import train_adapter
from alignment.training.watch import Watching
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

BASE = BaseModelRef(model="owner/tiny", revision="r1", weights_sha256="0")


@pytest.fixture
def token_pairs(tiny_model: Path, colour_pairs: list[PreferencePair]) -> list[TokenPair]:
    return load_renderer(tiny_model, 256).render_all(colour_pairs).pairs


def swapped(pairs: list[TokenPair]) -> list[TokenPair]:
    """The opposite wish: what is learnt from the others makes these worse and worse."""
    return [dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]


def train(model: Path, pairs: list[TokenPair], holdout: list[TokenPair], folder: Path, **more: Any) -> Any:
    watching = more.pop("watching", None)
    given = {"rank": 4, "learning_rate": 3e-2, "device": "cpu", "evaluate_every": 2, "lambda": 5.0} | more
    options = TrainingOptions.model_validate(given)
    return train_adapter(load_model(model), pairs, options, BASE, folder, pad_id=1, holdout=holdout, watching=watching)


def evaluations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "holdout.jsonl").read_text().splitlines()]


def test_a_run_that_makes_held_out_pairs_worse_stops_and_keeps_its_best(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    trained = train(tiny_model, token_pairs, swapped(token_pairs[:4]), tmp_path / "run", max_steps=20, early_stop=2)
    lines = evaluations(tmp_path / "run")
    best = min(lines, key=lambda line: line["loss"])
    assert trained.best == best
    assert lines[-1]["step"] == best["step"] + 4 < 20
    assert any(f"the adapter of step {best['step']:g} is kept" in reason for reason in trained.reasons)
    # A run cut at the best step has a schedule of its own; so compare with the same run without an early stop.
    train(tiny_model, token_pairs, [], tmp_path / "whole", max_steps=20)
    kept, last = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("run", "whole"))
    assert kept.keys() == last.keys()
    assert any((kept[name] != last[name]).any() for name in kept)


def test_evaluations_come_after_every_so_many_steps_and_after_the_last(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    trained = train(tiny_model, token_pairs[4:], token_pairs[:4], tmp_path, max_steps=5)
    assert [line["step"] for line in evaluations(tmp_path)] == [2, 4, 5]
    assert trained.best["loss"] < 1.2 * evaluations(tmp_path)[0]["loss"]


def test_an_interrupted_run_remembers_its_evaluations(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    seen: list[float] = []
    stop = Watching(lambda metrics: seen.append(metrics["step"]), lambda: len(seen) >= 3)
    with pytest.raises(TrainingStopped):
        train(tiny_model, token_pairs[4:], token_pairs[:4], tmp_path / "broken", max_steps=6, watching=stop)
    train(tiny_model, token_pairs[4:], token_pairs[:4], tmp_path / "broken", max_steps=6)
    train(tiny_model, token_pairs[4:], token_pairs[:4], tmp_path / "whole", max_steps=6)
    assert evaluations(tmp_path / "broken") == evaluations(tmp_path / "whole")
    files = [tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("broken", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_pairs_of_one_prompt_are_never_on_both_sides() -> None:
    rows = [TokenPair(str(number), "", 1.0, [number % 50, 7], [8, number], [9]) for number in range(400)]
    kept, left = held_out(rows, 0.1)
    assert len(kept) + len(left) == 400
    assert 0 < len(left) < 120
    assert not {tuple(row.prompt) for row in kept} & {tuple(row.prompt) for row in left}
