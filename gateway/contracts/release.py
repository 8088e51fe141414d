"""What training hands back to serving: an immutable, sealed folder and the manifest in it."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

MANIFEST_FILE = "release.json"
ADAPTER_FOLDER = "adapter"
MERGED_FOLDER = "merged"
DIFFERENCE_FOLDER = "difference"
REVERSE_FOLDER = "reverse"
CARD_FILE = "card.md"
PREFERENCE_GATE = "holdout_preference"
"""The gate that measures the gain over the incumbent on held-out pairs."""

ReleaseState = Literal["staged", "published", "rejected", "retired"]


class BaseModelRef(BaseModel):
    """The frozen weights a release stands on: by name and revision, never by a path of one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str
    weights_sha256: str
    """Over the names and bytes of the base's safetensors files; see `gateway/contracts/seal.py`."""


class Interval(BaseModel):
    """A measured value with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class Limit(BaseModel):
    """One limit of a gate, the figure that was held to it, and how far to trust it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    level: Literal["warn", "block"]
    value: float
    limit: float
    side: Literal["above", "below"]
    """The wrong side of the limit."""
    crossed: bool
    low: float | None = None
    """The 95 % interval of what is held to the limit, where it has one."""
    high: float | None = None
    false_alarm_share: float | None = None
    """How often it was crossed where there was no difference; None: not calibrated."""
    smallest_effect: float | None = None
    """The smallest change, in units of `value`, that crosses it in 8 of 10 cases; None: not calibrated, or not of the
    kind that an effect changes."""


class GateResult(BaseModel):
    """One gate's verdict on a candidate, with the figure and the limit it was held to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    verdict: Literal["pass", "warn", "block"]
    value: float
    limit: float
    reason: str
    low: float | None = None
    """The 95 % interval of what the gate measures, where it has one: of the gain, for the preference gate."""
    high: float | None = None
    n: int | None = None
    """On how many items it was measured."""
    limits: tuple[Limit, ...] = ()
    """Every limit that was asked, crossed or not."""


class DerivedAdapter(BaseModel):
    """An adapter that leads from one release's merged weights to another's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    incumbent_id: str
    """The release at the other end."""
    rank: int = Field(ge=1)


class Release(BaseModel):
    """The manifest of a release folder (`release.json`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    name: str
    """`<alias>-<yyyymmdd>-<n>`: the `model` of the answers it writes."""
    alias: str
    parent_id: str | None
    """The incumbent it was measured against."""
    base: BaseModelRef
    adapter_rank: int = Field(ge=1)
    method: str
    dataset_id: str | None
    run_id: str | None
    created_at: AwareDatetime
    metrics: dict[str, Any] = {}
    gates: tuple[GateResult, ...] = ()
    difference: DerivedAdapter | None = None
    """In `difference/`: over the incumbent's merged weights it gives this release."""
    reverse: DerivedAdapter | None = None
    """In `reverse/`: over this release's merged weights it gives the incumbent."""

    @property
    def blocked_by(self) -> tuple[GateResult, ...]:
        """The gates that keep this release from serving."""
        return tuple(gate for gate in self.gates if gate.verdict == "block")


def release_name(alias: str, created_at: datetime, number: int) -> str:
    """`assistant-20261123-2`: the alias, the UTC day, and how many releases of the alias came before on that day."""
    return f"{alias}-{created_at.astimezone(UTC):%Y%m%d}-{number}"
