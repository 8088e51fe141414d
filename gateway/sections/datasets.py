"""Settings of how pairs become a data set."""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from gateway.sections.section import Section


class DatasetSettings(Section):
    """From pairs to a frozen data set. Each rule has a counter of its name in the data set's card."""

    profile: Literal["team", "public"] = "team"
    """Whom to believe. `team`: raters and imports are trusted; what would be capped is told as a warning. `public`:
    caps, probation and the daily limit bind everybody but keys with `feedback:delegate` that vote for themselves."""
    holdout_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of prompts kept from training to measure it, once `holdout_start_pairs` are held out."""
    holdout_start_share: float = Field(default=0.3, ge=0, le=0.5)
    """Share until then."""
    holdout_start_pairs: NonNegativeInt = 100
    """See `holdout_start_share`."""
    pairs_per_cluster: PositiveInt = 3
    """Near-duplicate prompts make at most so many pairs in a data set; the weightiest stay."""
    recency_half_life_days: PositiveFloat = 60.0
    """A vote weighs half after so many days; corrections and imports do not age."""
    recency_floor: float = Field(default=0.2, ge=0, le=1)
    """What is left of the oldest vote's weight."""
    off_policy_factor: float = Field(default=0.7, gt=0, le=1)
    """A text written by an older release weighs so much less for each release between it and the one before the serving
    one. Text of people and imports is exempt."""
    off_policy_floor: float = Field(default=0.3, ge=0, le=1)
    """What is left at least."""
    balance_length: bool = False
    """Weigh pairs whose longer side was chosen less, until they are 60 % of what is weighed."""
    benchmarks: tuple[Path, ...] = ()
    """Files of benchmark items (JSON Lines or text). Pairs that share 13 words in a row with one are left out."""
