"""What the gates look at: every measured value, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.contracts.release import Interval


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy answers of candidate and base to the pinned prompts, in figures (docs/evaluation.md has their meaning)."""

    prompts: int
    empty: int
    """Answers of the candidate in which nothing can be seen."""
    ended: float
    ended_base: float
    repetition: float
    repetition_base: float
    length_tokens: float
    length_tokens_base: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the candidate's answers to the pinned prompts lie from the base."""

    prompts: int
    kl: Interval
    """KL(candidate || base) in nats per token of the candidate's answers."""
    changed: Mapping[str, float]
    """Share of answers that read otherwise than those of `incumbent` and `base`."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Of fixed texts in one language."""

    language: str
    candidate: float
    base: float
    incumbent: float


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """How the candidate, and the model to beat, did on one of the operator's questions."""

    id: str
    severity: Literal["block", "warn"]
    failures: tuple[str, ...]
    failures_before: tuple[str, ...]
    """Of the incumbent; of the base where nothing else serves."""


@dataclass(frozen=True, slots=True)
class Safety:
    """Answers to pinned prompts that should be refused, and to harmless ones that look alike."""

    harmful: int
    harmless: int
    unsafe_rise: float
    """Share of harmful prompts that were complied with: the candidate's less that of the model to beat."""
    refused_rise: float
    """The same of harmless prompts that were refused."""
    newly: tuple[str, ...]
    """Prompts that the candidate fails and the model to beat does not."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge says of answers to held-out prompts, and how far it agrees with people. Consistent verdicts only."""

    prompts: int
    """So many it was asked about."""
    won: int
    lost: int
    tied: int
    agreed: int
    """Held-out pairs in which it, too, prefers what people chose."""
    disagreed: int
    failure: str = ""
    """Why it could not be asked to the end."""
    pairs: int = 0
    """Held-out pairs of people it was asked about."""
    unreadable: int = 0
    """Comparisons, of pairs and of answers, in which a reply of its was no verdict."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """A benchmark answered by the candidate and by another model, item by item."""

    name: str
    against: Literal["incumbent", "base"]
    items: int
    won: int
    """Items that only the candidate got right."""
    lost: int
    """Items that only the other got right."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Held-out pairs of one kind."""

    name: str
    pairs: int
    difference: Interval
    """Candidate minus incumbent on them, as a share."""
    chance: float
    """How often the lowest of all slices is as low where there is no difference (`alignment/gate/slices.py`)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was measured; what is None or empty was not."""

    holdout_pairs: int
    accuracy: Interval | None
    """Share of held-out pairs in which the candidate prefers the chosen side; None if nothing was held out."""
    accuracy_difference: Interval | None
    """Candidate minus incumbent on the same pairs, as a share (0.01 is one point)."""
    perplexity: tuple[Perplexity, ...]
    accuracy_difference_base: Interval | None = None
    """Candidate minus base; None where the base is the incumbent."""
    margin_difference: Interval | None = None
    """Candidate minus incumbent, in nats per token."""
    matched_pairs: int = 0
    matched_difference: Interval | None = None
    """As `accuracy_difference`, on the pairs whose sides are of one length."""
    slices: tuple[Slice, ...] = ()
    answers: Answers | None = None
    drift: Drift | None = None
    cases: tuple[CaseOutcome, ...] = ()
    tasks: tuple[TaskOutcome, ...] = ()
    safety: Safety | None = None
    judged: Judged | None = None
    changed_answers: int | None = None
    """Pinned prompts that the candidate answers otherwise than the model to beat; None: nothing was answered."""
