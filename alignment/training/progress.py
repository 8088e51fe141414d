"""How a run goes, for people: a bar on a terminal, a line now and then anywhere else; never on standard output."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from alignment.training.records import Metrics
from alignment.training.watch import Watcher

_RECENT_STEPS = 20
_LINE_SECONDS = 10.0


class Pace(NamedTuple):
    """How fast a run is, over its recent steps."""

    pairs_per_second: float
    tokens_per_second: float
    seconds_left: float
    """At the mean of all steps of this process, with everything between them."""


class PaceMeter:
    """Measures the pace from every step's own figures. Knows the time only as it is told."""

    def __init__(self, begun_at: float, done: int, steps: int) -> None:
        """`done`: steps that a checkpoint had already; they took none of this process's time."""
        self._begun_at, self._first, self._steps = begun_at, done, steps
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT_STEPS)

    def pace(self, logs: Metrics, step: int, now: float) -> Pace:
        """The pace after a step with these figures."""
        self._recent.append((logs["pairs_per_second"], logs["tokens_per_second"]))
        # All steps have as many pairs, so a step took 1 / pairs_per_second of the same unknown.
        taken = sum(1 / pairs for pairs, _ in self._recent)
        tokens = sum(tokens / pairs for pairs, tokens in self._recent) / taken
        left = (now - self._begun_at) / (step - self._first) * (self._steps - step)
        return Pace(len(self._recent) / taken, tokens, left)


class ProgressWatcher(Watcher, ABC):
    """Follows the steps; children show them."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._meter = PaceMeter(clock(), 0, 1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin where the run stands."""
        self._meter = PaceMeter(self._clock(), state.global_step, state.max_steps)
        self._begin(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Metrics, **_: Any) -> None:
        """Show a step."""
        if "loss" in logs:
            pace = self._meter.pace(logs, state.global_step, self._clock())
            self._show(state.global_step, state.max_steps, said(logs, pace))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave things as they stand."""

    def _begin(self, step: int, steps: int) -> None:
        pass

    @abstractmethod
    def _show(self, step: int, steps: int, text: str) -> None:
        """Make a step visible."""


class Bar(ProgressWatcher):
    """A progress bar."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("training", total=None, text="")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()

    def _begin(self, step: int, steps: int) -> None:
        self._progress.update(self._task, total=steps, completed=step)
        self._progress.start()

    def _show(self, step: int, steps: int, text: str) -> None:
        self._progress.update(self._task, completed=step, text=text)


class Lines(ProgressWatcher):
    """A line for the first step, then one every so many seconds, and one for the last step."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._shown_at = float("-inf")

    def _show(self, step: int, steps: int, text: str) -> None:
        if step < steps and self._clock() - self._shown_at < _LINE_SECONDS:
            return
        self._shown_at = self._clock()
        self._console.print(f"step {step} of {steps}  {text}", highlight=False, soft_wrap=True)


def shown_on(console: Console) -> ProgressWatcher:
    """What suits the place where standard error goes."""
    return Bar(console) if console.is_terminal else Lines(console)


def said(logs: Metrics, pace: Pace) -> str:
    """The figures of a step in a line."""
    accuracy = f"  accuracy {logs['rewards/accuracy']:.2f}" if "rewards/accuracy" in logs else ""
    minutes, seconds = divmod(round(pace.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"loss {logs['loss']:.3f}{accuracy}  {pace.pairs_per_second:.3g} pairs/s  "
        f"{pace.tokens_per_second:,.0f} tokens/s  {hours}:{minutes:02}:{seconds:02} left"
    )
