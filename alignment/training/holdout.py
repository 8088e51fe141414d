"""Held-out rows while training: evaluated now and then, the best adapter kept, the run ended when it stops gaining."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.training.batches import PlannedRows, Row
from alignment.training.records import Metrics, append, drop_after, read_metrics
from alignment.training.scoring import RowScorer
from alignment.training.watch import Watcher

HOLDOUT_FILE = "holdout.jsonl"
BEST_FOLDER = "best"
_ROWS_AT_A_TIME = 16


class Holdout(Watcher):
    """Watches the loss on rows that are not trained on."""

    def __init__(
        self, scorer: RowScorer, rows: Sequence[Row], folder: Path, every: int, patience: int | None, resumed_step: int
    ) -> None:
        """`patience`: evaluations without a better loss after which the run ends; None never ends it."""
        self.stopped_early = False
        self._scorer, self._rows, self._folder = scorer, rows, folder
        self._every, self._patience = every, patience
        drop_after(folder / HOLDOUT_FILE, resumed_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        """Evaluate after every so many steps, and after the last."""
        if state.global_step % self._every and state.global_step < state.max_steps:
            return control
        found = {"step": state.global_step, **self._evaluate(model)}
        if state.is_world_process_zero:
            append(self._folder / HOLDOUT_FILE, found)
        if self._is_best(found) and state.is_world_process_zero:
            self._keep(model)
        if self._patience is not None and self._since_best(found) >= self._patience:
            self.stopped_early = control.should_training_stop = True
        return control

    def best(self) -> Metrics | None:
        """The evaluation with the lowest loss; None before the first."""
        return min(read_metrics(self._folder / HOLDOUT_FILE), key=lambda line: line["loss"], default=None)

    def _evaluate(self, model: Any) -> Metrics:
        model.eval()
        planned = PlannedRows(self._rows, 1, len(self._rows), seed=0)
        sums: Metrics = {}
        for start in range(0, len(planned), _ROWS_AT_A_TIME):
            rows = [planned[index] for index in range(start, min(len(planned), start + _ROWS_AT_A_TIME))]
            for name, value in self._scorer.score(model, rows, learn=False).items():
                sums[name] = sums.get(name, 0.0) + value * len(rows) / len(planned)
        return sums

    def _is_best(self, found: Metrics) -> bool:
        best = self.best()
        return best is None or found["loss"] <= best["loss"]

    def _since_best(self, found: Metrics) -> int:
        best = self.best() or found
        return sum(best["step"] < line["step"] for line in read_metrics(self._folder / HOLDOUT_FILE))

    def _keep(self, model: Any) -> None:
        unfinished = self._folder / f".{BEST_FOLDER}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        model.save_pretrained(str(unfinished), save_embedding_layers=False)
        shutil.rmtree(self._folder / BEST_FOLDER, ignore_errors=True)
        unfinished.rename(self._folder / BEST_FOLDER)


def held_out(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, whole prompts at a time, chosen by a hash of the prompt."""
    by_side: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        digest = hashlib.sha256(repr(row.prompt).encode()).digest()
        by_side[int.from_bytes(digest[:4]) < share * 2**32].append(row)
    return by_side
