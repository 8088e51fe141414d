"""What happens around the steps of a run: measurements go out, a wish to stop comes in, checkpoints are marked."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from transformers import TrainerCallback

from alignment.training.checkpoints import CHECKPOINT_SECONDS, seal_checkpoint
from alignment.training.event_file import EventFile
from alignment.training.records import Metrics, append, drop_after

OnProgress = Callable[[Metrics], None]
OnCheckpoint = Callable[[int], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Watching:
    """What is told of a run while it goes, and how often it is saved."""

    on_progress: OnProgress = lambda metrics: None
    should_stop: ShouldStop = lambda: False
    bar: bool = False
    """Show people how it goes, on standard error: a bar on a terminal, else a line now and then."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    callbacks: tuple[Any, ...] = ()
    """transformers' callbacks, called beside ours."""
    report_to: tuple[str, ...] = ()
    """Further reporters of transformers by name (`wandb`, `mlflow`); TensorBoard and JSON lines are always written."""
    on_checkpoint: OnCheckpoint = lambda step: None
    """Told the step of each checkpoint once it is sealed."""


class Watcher(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by the type checker
    """The trainer calls it between steps."""


class MetricsFile(Watcher):
    """One JSON line a step; on resuming, the lines of steps that are done anew are taken out first."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        drop_after(path, resumed_step)
        self._path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: Metrics, **_: Any) -> None:
        """Append one line."""
        if "loss" in logs:
            append(self._path, {"step": state.global_step, **logs})


class Curves(Watcher):
    """Every step's figures for TensorBoard."""

    def __init__(self, events: EventFile) -> None:
        self._events = events

    def on_log(self, args: Any, state: Any, control: Any, logs: Metrics, **_: Any) -> None:
        """Add a point to every curve."""
        if "loss" in logs:
            self._events.add("train", logs, state.global_step)


class Reporter(Watcher):
    """Hands every step's metrics to a function."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Metrics, **_: Any) -> None:
        """Report the step."""
        if "loss" in logs:
            self._on_progress({"step": state.global_step, "steps": state.max_steps, **logs})


class Checkpoints(Watcher):
    """Asks for a checkpoint every so often, and once before stopping; seals each when it is whole."""

    def __init__(
        self,
        should_stop: ShouldStop,
        every_seconds: float,
        is_calm: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        on_checkpoint: OnCheckpoint = lambda step: None,
    ) -> None:
        """`is_calm`: whether the run looks well just now; a doubtful adapter is not worth a checkpoint."""
        self.stopped = False
        self._should_stop = should_stop
        self._every_seconds = every_seconds
        self._is_calm = is_calm
        self._clock = clock
        self._on_checkpoint = on_checkpoint
        self._saved_at = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Decide, between two steps, whether to save and whether to stop."""
        wants_stop = state.global_step < state.max_steps and self._should_stop()
        wants_save = wants_stop or (self._clock() - self._saved_at >= self._every_seconds and self._is_calm())
        wants_stop, wants_save = _as_the_first_worker(wants_stop, wants_save)
        if wants_stop:
            self.stopped = control.should_training_stop = True
        control.should_save = control.should_save or wants_save
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer wrote a checkpoint."""
        if distributed.is_initialized():
            distributed.barrier()  # each worker writes the state of its random numbers
        if state.is_world_process_zero:
            seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            self._on_checkpoint(state.global_step)
        self._saved_at = self._clock()


def _as_the_first_worker(*wishes: bool) -> list[bool]:
    """Clocks differ: all workers do what the first one wants."""
    if not distributed.is_initialized():
        return list(wishes)
    told = torch.tensor(wishes, dtype=torch.int32)
    distributed.broadcast(told, src=0)
    return [bool(wish) for wish in told.tolist()]
