"""Held-out rows while training: evaluated now and then, the best adapter kept, the run ended when it stops gaining."""

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alignment.errors import CheckpointDamaged
from alignment.files import fresh_folder, replace_folder
from alignment.training.batches import PlannedRows, Row
from alignment.training.checkpoints import BEST, sealed_checkpoints, step_of
from alignment.training.records import Metrics, append, drop_after, read_metrics
from alignment.training.scoring import RowScorer
from alignment.training.watch import Watcher

HOLDOUT_FILE = "holdout.jsonl"
_ROWS_AT_A_TIME = 16


class Holdout(Watcher):
    """Watches the loss on rows that are not trained on."""

    def __init__(
        self,
        scorer: RowScorer,
        rows: Sequence[Row],
        folder: Path,
        every: int,
        patience: int | None,
        resumed_step: int,
        on_evaluation: Callable[[Metrics], None] = lambda found: None,
    ) -> None:
        """`patience`: evaluations without a better loss after which the run ends; None never ends it."""
        self.stopped_early = False
        self._scorer, self._rows, self._folder = scorer, rows, folder
        self._every, self._patience, self._on_evaluation = every, patience, on_evaluation
        # Every worker keeps its own list, so that all of them decide alike whoever has written the file by then.
        self._found = [line for line in read_metrics(folder / HOLDOUT_FILE) if line["step"] <= resumed_step]
        self._resumed_step = resumed_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take out the lines of evaluations that are done anew."""
        if state.is_world_process_zero:
            drop_after(self._folder / HOLDOUT_FILE, self._resumed_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        """Evaluate after every so many steps, and after the last."""
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._look(state, model)
        if self._patience is not None and self._since_best() >= self._patience:
            self.stopped_early = control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the best adapter so far, and what was the best at each checkpoint that the run may go on from."""
        if not state.is_world_process_zero:
            return
        wanted = [self.best(until=step_of(checkpoint)) for checkpoint in sealed_checkpoints(self._folder)]
        names = {_name(found) for found in wanted if found}
        for kept in self._folder.glob(f"{BEST}*"):
            if kept.name not in names:
                shutil.rmtree(kept, ignore_errors=True)

    def best(self, until: float = math.inf) -> Metrics | None:
        """The evaluation with the lowest loss, up to a step, the newest of equals; None before the first."""
        found = [line for line in reversed(self._found) if line["step"] <= until]
        return min(found, key=lambda line: line["loss"], default=None)

    def _look(self, state: Any, model: Any) -> None:
        found = {"step": state.global_step, **self._evaluate(model)}
        self._found.append(found)
        if state.is_world_process_zero:
            append(self._folder / HOLDOUT_FILE, found)
            self._on_evaluation(found)
            if self.best() is found:
                self._keep(model, self._folder / _name(found))

    def _evaluate(self, model: Any) -> Metrics:
        model.eval()
        planned = PlannedRows(self._rows, 1, len(self._rows), seed=0)
        sums: Metrics = {}
        for start in range(0, len(planned), _ROWS_AT_A_TIME):
            rows = [planned[index] for index in range(start, min(len(planned), start + _ROWS_AT_A_TIME))]
            for name, value in self._scorer.score(model, rows, learn=False).items():
                sums[name] = sums.get(name, 0.0) + value * len(rows) / len(planned)
        return sums

    def _since_best(self) -> int:
        best = self.best()
        return sum(best["step"] < line["step"] for line in self._found) if best else 0

    def _keep(self, model: Any, kept: Path) -> None:
        """Beside earlier ones: a run resumed from before this step still needs the best one until then."""
        unfinished = fresh_folder(self._folder / ".best.part")
        model.save_pretrained(str(unfinished), save_embedding_layers=False)
        replace_folder(unfinished, kept)


def best_adapter(folder: Path, best: Metrics) -> Path:
    """The weights that were kept of an evaluation. Raises `CheckpointDamaged` if they are not there any more."""
    path = folder / _name(best) / "adapter_model.safetensors"
    if not path.is_file():
        raise CheckpointDamaged(f"{path}, the best adapter on the held-out rows, is gone; train anew in another folder")
    return path


def _name(found: Metrics) -> str:
    return f"{BEST}{found['step']:g}"


def held_out(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, whole prompts at a time, chosen by a hash of the prompt."""
    by_side: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        digest = hashlib.sha256(repr(row.prompt).encode()).digest()
        by_side[int.from_bytes(digest[:4]) < share * 2**32].append(row)
    return by_side
