"""Settings of what becomes of feedback: how votes weigh, what is held out, when to train."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from gateway.sections.section import Section
from gateway.sections.votes import MetricSettings, PairingSettings, TrustSettings


class FeedbackSettings(Section):
    """From votes to pairs."""

    trust: TrustSettings = TrustSettings()
    pairing: PairingSettings = PairingSettings()
    metrics: tuple[MetricSettings, ...] = ()
    """What answers may be rated by besides `thumbs`; a rating by anything else is refused."""
    typo_distance: float = Field(default=0.02, ge=0, le=1)
    """A correction closer to the original than this (normalised edit distance) counts as a typo."""
    typo_weight: PositiveFloat = 0.3
    """Weight of a typo correction."""
    holdout_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of prompts kept from training to measure it, once `holdout_start_pairs` are held out."""
    holdout_start_share: float = Field(default=0.3, ge=0, le=0.5)
    """Share until then."""
    holdout_start_pairs: NonNegativeInt = 100
    """See `holdout_start_share`."""
    completion_wait_seconds: PositiveFloat = 2.0
    """A vote on a completion that is still being written waits this long for it."""

    @field_validator("metrics")
    @classmethod
    def _names_each_metric_once(cls, metrics: tuple[MetricSettings, ...]) -> tuple[MetricSettings, ...]:
        if len({metric.name for metric in metrics}) != len(metrics):
            raise ValueError("two [[feedback.metrics]] entries have the same name")
        return metrics


class AlignerSettings(Section):
    """When to train by itself, and where."""

    enabled: bool = True
    """Whether `alignway up` starts an aligner."""
    every: str | None = Field(default=None, pattern=r"^[1-9][0-9]*[smhd]$")
    """Train at this interval, such as `12h` or `7d`; default: only when asked."""
    min_new_pairs: PositiveInt | None = None
    """Train when this many pairs became eligible since the last run; default: only when asked."""
    auto_min_train_pairs: PositiveInt = 200
    """An automatic run waits for this many pairs to train on."""
    auto_min_holdout_pairs: PositiveInt = 50
    """An automatic run waits for this many pairs to measure on."""
    threads: NonNegativeInt = 0
    """CPU threads of a training run; 0: all cores."""
