"""Settings of votes: what may be rated, what a kind of vote weighs, and by which rules votes become pairs."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt, model_validator

from gateway.sections.section import Section

Share = Annotated[float, Field(ge=0, le=1)]

THUMBS = "thumbs"


class MetricSettings(Section):
    """Something that answers are rated by, as `[[feedback.metrics]]`. `thumbs` (true or false) is built in."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """What clients write in `name`."""
    type: Literal["boolean", "scale"] = "boolean"
    """`boolean`: true or false; `scale`: a number from `min` to `max`."""
    min: FiniteFloat | None = None
    """The lowest value of a scale."""
    max: FiniteFloat | None = None
    """The highest value of a scale."""
    direction: Literal["higher_is_better", "lower_is_better"] = "higher_is_better"
    """Which end is the good one; of a boolean, `higher_is_better` means that true is good."""
    pairs: bool = False
    """Whether a good and a bad rating of two answers to one prompt may form a pair."""
    up: FiniteFloat | None = None
    """A value as good as this counts as a thumb up; default: the best quarter of the scale."""
    down: FiniteFloat | None = None
    """A value as bad as this counts as a thumb down; default: the worst quarter of the scale."""

    @model_validator(mode="after")
    def _has_the_range_of_its_type(self) -> "MetricSettings":
        if self.name == THUMBS:
            raise ValueError(f"`{THUMBS}` is built in and cannot be declared")
        if self.type == "boolean":
            if (self.min, self.max, self.up, self.down) != (None, None, None, None):
                raise ValueError(f"the metric `{self.name}` is boolean: `min`, `max`, `up`, `down` belong to a scale")
            return self
        if self.min is None or self.max is None or self.min >= self.max:
            raise ValueError(f"the metric `{self.name}` is a scale: it needs a `min` below its `max`")
        sign = 1 if self.direction == "higher_is_better" else -1
        if not all(self.min <= bound <= self.max for bound in self.bounds):
            raise ValueError(f"`up` and `down` of the metric `{self.name}` must lie between its `min` and `max`")
        if sign * self.bounds[0] <= sign * self.bounds[1]:
            raise ValueError(f"`up` of the metric `{self.name}` must be better than its `down`")
        return self

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value; false is 0 and true 1."""
        return (0.0, 1.0) if self.min is None or self.max is None else (self.min, self.max)

    @property
    def bounds(self) -> tuple[float, float]:
        """From where on a value is a thumb up, and from where on a thumb down."""
        low, high = self.range
        quarter = (high - low) / 4
        up, down = high - quarter, low + quarter
        if self.direction == "lower_is_better":
            up, down = down, up
        return up if self.up is None else self.up, down if self.down is None else self.down


class TrustSettings(Section):
    """How much a kind of feedback weighs in training, 0 to 1."""

    preference: PositiveFloat = 1.0
    """A vote between two completions."""
    correction: PositiveFloat = 1.0
    """An answer rewritten by a person."""
    imported_pair: PositiveFloat = 1.0
    """A pair brought in from elsewhere."""
    ranking: PositiveFloat = 0.9
    """The best against the worst of a ranking."""
    ratings: PositiveFloat = 0.5
    """A thumb up against a thumb down by one rater: ratings and comparisons often disagree (arXiv 2308.15812)."""
    ratings_across_raters: PositiveFloat = 0.3
    """The same by two raters, where `feedback.pairing.across_raters` is on."""
    judge: PositiveFloat = 0.25
    """Anything that a rater of kind `judge`, a model, says."""


class PairingSettings(Section):
    """By which rules votes become pairs."""

    pairs_per_prompt: PositiveInt = 3
    """One rater makes at most so many pairs of one prompt, or that prompt would outweigh the others; corrections and
    imports are not counted."""
    across_raters: bool = False
    """Whether a thumb up of one rater and a thumb down of another form a pair."""
    fact_names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A correction that adds or takes out one of these names counts in full, however short: products, drugs, people."""
    rewrite_distance: Share = 0.9
    """A correction further from the original than this (normalised edit distance) is a rewrite."""
    review_share: Share = 0.1
    """Share of rewrites that is held until somebody has reviewed them."""
    identities: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "ChatGPT", "GPT-4", "GPT-4o", "GPT-5", "Claude", "Gemini", "Bard", "Copilot", "Grok",
        "文心一言", "讯飞星火", "豆包", "Kimi", "混元",
    )  # fmt: skip
    """Assistants of others: an answer that calls itself so makes no pair. Take out what you serve."""
    makers: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "OpenAI", "Anthropic", "Google", "DeepMind", "Microsoft", "xAI",
        "百度", "科大讯飞", "字节跳动", "月之暗面", "腾讯",
    )  # fmt: skip
    """Their makers: an answer that says it was made by one of these makes no pair."""
