"""What every row is measured with. Stands alone: it runs inside the environment of each trainer.

A row is a program called as `python ROW.py SETTINGS.json`. It trains on the pairs of a file, evaluates on them, and
writes a JSON file with what it measured.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from settings import Settings
from transformers import TrainerCallback


class StepClock(TrainerCallback):
    """Notes when each optimiser step is done, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first step begins."""
        self.ends.append(_now())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is done."""
        self.ends.append(_now())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """The trainer tells the loss."""
        if "loss" in (logs or {}):
            self.losses.append(float(logs["loss"]))

    @property
    def seconds(self) -> list[float]:
        """Of each step, the first included."""
        return [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]


def measure(train: Callable[[Settings, StepClock], Callable[[], Any] | None]) -> None:
    """Run a row: `train` trains with the clock and may return a function that evaluates once."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(settings.threads)
    clock = StepClock()
    evaluate = train(settings, clock)
    figures: dict[str, Any] = {"step_seconds": clock.seconds, "losses": clock.losses} | peak_memory()
    if evaluate is not None:
        with stopwatch() as taken:
            evaluate()
        figures["evaluation_seconds"] = taken[0]
        figures["evaluation_peak_mib"] = peak_memory()["peak_mib"]
    figures["torch"] = torch.__version__
    Path(settings.out).write_text(json.dumps(figures))


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Seconds of the block, as the one entry of the list."""
    taken: list[float] = []
    start = _now()
    yield taken
    taken.append(_now() - start)


def peak_memory() -> dict[str, float]:
    """MiB at most so far: of the accelerator if there is one, else of the process."""
    if torch.cuda.is_available():
        return {"peak_mib": torch.cuda.max_memory_allocated() / 2**20}
    return {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
