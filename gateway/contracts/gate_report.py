"""The report of a release's gates, and what an A/A run found about their limits. Kept in the release's folder."""

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gateway.contracts.release import GateResult, Limit, Release

REPORT_FILE, REPORT_PAGE, REPORT_PLOT = "gates.json", "gates.md", "gates.png"
POWER = 0.8
"""`smallest_effect` is what crosses a limit in this share of cases."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitNoise(_Record):
    """How one limit behaves where there is no difference."""

    gate: str
    name: str
    level: Literal["warn", "block"]
    false_alarm_share: float = Field(ge=0, le=1)
    """Share of the draws in which it was crossed."""
    smallest_effect: float | None
    """Units of the limit; see `Limit`."""


class Calibration(_Record):
    """What an A/A run found: the gates on comparisons in which the two sides are no different."""

    alias: str
    how: Literal["exchanged", "seeds"]
    """`exchanged`: a release against what came before it, their results exchanged at random prompt by prompt.
    `seeds`: trainings on the same pairs that differ in nothing but the seed, likewise exchanged."""
    subject: str
    """What was compared, for people."""
    draws: int = Field(ge=1)
    holdout_pairs: int
    """On so many held-out pairs; with more of them, limits see smaller effects."""
    made_at: AwareDatetime
    limits: tuple[LimitNoise, ...]


class ChangedAnswer(_Record):
    """One prompt with two greedy answers, for a person to look at."""

    prompt: str
    candidate: str
    incumbent: str
    """Of the base where nothing else serves."""
    changed_share: float = Field(ge=0, le=1)
    """How much of the words differs: 0 for the same answer."""


class GateReport(_Record):
    """Everything a person needs to decide whether a release may serve (`gates.json`)."""

    schema_version: Literal[1] = 1
    release: str
    name: str
    alias: str
    compared_with: str | None
    """The incumbent's id; None: the base model."""
    created_at: AwareDatetime
    verdict: Literal["pass", "warn", "block"]
    gates: tuple[GateResult, ...]
    calibration: Calibration | None = None
    changed_answers: tuple[ChangedAnswer, ...] = ()
    """The most changed ones first."""


def report_of(
    release: Release, calibration: Calibration | None = None, changed_answers: Sequence[ChangedAnswer] = ()
) -> GateReport:
    """The report of a release whose gates have spoken."""
    return GateReport(
        release=release.id,
        name=release.name,
        alias=release.alias,
        compared_with=release.parent_id,
        created_at=release.created_at,
        verdict=gravest(release.gates),
        gates=calibrated(release.gates, calibration),
        calibration=calibration,
        changed_answers=tuple(changed_answers),
    )


def gravest(gates: Sequence[GateResult]) -> Literal["pass", "warn", "block"]:
    """The verdict of all gates together."""
    verdicts = {gate.verdict for gate in gates}
    return "block" if "block" in verdicts else "warn" if "warn" in verdicts else "pass"


def calibrated(gates: Sequence[GateResult], calibration: Calibration | None) -> tuple[GateResult, ...]:
    """The same results, with what is known of each limit beside it."""
    noise = {(one.gate, one.name, one.level): one for one in calibration.limits} if calibration else {}

    def known(gate: str, limit: Limit) -> Limit:
        found = noise.get((gate, limit.name, limit.level))
        share, effect = (found.false_alarm_share, found.smallest_effect) if found else (None, None)
        return limit.model_copy(update={"false_alarm_share": share, "smallest_effect": effect})

    return tuple(
        gate.model_copy(update={"limits": tuple(known(gate.gate, one) for one in gate.limits)}) for gate in gates
    )
