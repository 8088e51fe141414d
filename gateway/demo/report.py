"""What the demo measured, and the verdict over it. Pure; printed by `table.py`, drawn by `plot.py`."""

from pydantic import BaseModel, ConfigDict, computed_field

from gateway.demo.statistics import Control, Difference, median_words

MIN_GAIN_POINTS = 15.0


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Record):
    """One figure before and after; absent where the service did not give it."""

    before: float | None
    after: float | None


class Teaching(_Record):
    """What the annotator said, and how many pairs the service made of it."""

    completions: int
    corrections: int
    votes: int
    pairs: int


class Stage(_Record):
    """A step of the demo, timed from the start of the first."""

    name: str
    started_seconds: float
    seconds: float


class Streams(_Record):
    """The streamed answers that ran while the weights were swapped."""

    streams: int
    answers: int
    failed: int
    mixed: int
    """Answers that named more than one release, or one that is neither incumbent nor candidate."""
    by_release: dict[str, int]
    max_stall_seconds: float
    """The longest wait between two chunks of one answer."""
    max_wait_seconds: float
    """The longest wait for the first chunk: what the fence cost a newcomer."""
    failures: tuple[str, ...] = ()
    """The first few errors, as the client saw them."""


class Rollback(_Record):
    """Whether the answers of the incumbent came back, letter for letter."""

    seconds: float
    """Until the answers were as before."""
    compared: int
    restored: int

    @property
    def complete(self) -> bool:
        """Whether every compared answer is the old one."""
        return 0 < self.compared == self.restored


class Example(_Record):
    """One unseen prompt and its two answers."""

    prompt: str
    before: str
    after: str


class LearningReport(_Record):
    """What was learnt, on the same prompts before and after. `passed` and `reasons` follow from the rest."""

    alias: str
    incumbent_id: str
    candidate_id: str
    style_before: float
    """Share of unseen prompts answered in the house style, 0 to 1; a truncated answer is not."""
    style_after: float
    difference: Difference
    words_before: tuple[int, ...]
    """Length of each answer; the same order of prompts before and after."""
    words_after: tuple[int, ...]
    holdout_accuracy: Measured
    perplexity: Measured
    controls: tuple[Control, ...]
    teaching: Teaching
    stages: tuple[Stage, ...]
    examples: tuple[Example, ...] = ()

    @property
    def median_words_before(self) -> float:
        """Median length of the answers of the incumbent."""
        return median_words(self.words_before)

    @property
    def median_words_after(self) -> float:
        """Median length of the answers of the candidate."""
        return median_words(self.words_after)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the demo failed; empty where it passed."""
        return (*_gain_reasons(self), *_control_reasons(self), *self._more_reasons())

    def _more_reasons(self) -> tuple[str, ...]:
        return ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the loop did what it promises."""
        return not self.reasons

    @property
    def exit_code(self) -> int:
        """0 where it passed, else 1."""
        return 0 if self.passed else 1


class DemoReport(LearningReport):
    """The whole demo in figures."""

    streams: Streams
    rollback: Rollback

    def _more_reasons(self) -> tuple[str, ...]:
        return (*_stream_reasons(self), *_rollback_reasons(self))


def _gain_reasons(report: LearningReport) -> list[str]:
    found, reasons = report.difference, []
    if found.low <= 0 <= found.high:
        reasons.append(f"the 95 % interval of the gain includes 0: {found.low:+.1f} to {found.high:+.1f} points")
    if found.points < MIN_GAIN_POINTS:
        reasons.append(f"the style share gained {found.points:+.1f} points, under {MIN_GAIN_POINTS:g}")
    return reasons


def _control_reasons(report: LearningReport) -> list[str]:
    return [f"control failed: {describe_control(control)}" for control in report.controls if not control.holds]


def describe_control(control: Control) -> str:
    """The control with its value and its limit, for people."""
    if control.value is None:
        return f"{control.name} was not measured (limit {control.limit:g})"
    return f"{control.name} {control.value:.3g} (limit {control.limit:g})"


def _stream_reasons(report: DemoReport) -> list[str]:
    streams, reasons = report.streams, []
    if streams.failed:
        first = f": {streams.failures[0]}" if streams.failures else ""
        reasons.append(f"{streams.failed} of {streams.answers} streamed answers failed during the swap{first}")
    if streams.mixed:
        reasons.append(f"{streams.mixed} of {streams.answers} streamed answers mixed releases during the swap")
    if not streams.answers:
        reasons.append("no streamed answer ran during the swap")
    return reasons


def _rollback_reasons(report: DemoReport) -> list[str]:
    rollback = report.rollback
    if rollback.complete:
        return []
    return [f"after the rollback {rollback.restored} of {rollback.compared} greedy answers were the old ones"]
