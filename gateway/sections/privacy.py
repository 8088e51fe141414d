"""Settings of what is kept of people, for how long, and what is taken out of their texts."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from gateway.sections.section import Section

RedactionMode = Literal["off", "before_training", "before_storage"]


class PresidioSettings(Section):
    """Names and places, found by Presidio's models (`pip install "alignway[presidio]"`)."""

    enabled: bool = False
    """Ask Presidio as well as the built-in detectors. It takes milliseconds for each text."""
    languages: tuple[str, ...] = ("en",)
    """Languages of the texts, such as `en` and `zh`; each text is looked at in every one."""
    models: tuple[str, ...] = ("en_core_web_sm",)
    """The spaCy model of each language, in the same order."""
    entities: tuple[str, ...] = Field(default=("PERSON", "LOCATION"), min_length=1)
    """What to take out, by Presidio's names."""
    score_threshold: float = Field(default=0.5, ge=0, le=1)
    """How sure Presidio must be."""

    @model_validator(mode="after")
    def _one_model_for_each_language(self) -> "PresidioSettings":
        if len(self.languages) != len(self.models) or not self.languages:
            raise ValueError("privacy.presidio.models needs one spaCy model for each of privacy.presidio.languages")
        return self


class RetentionSettings(Section):
    """How long records are kept; 0: for good. What is older is deleted by a job that runs by itself."""

    completions_days: NonNegativeFloat = 30.0
    """Completions that nobody voted on."""
    voted_completions_days: NonNegativeFloat = 180.0
    """Completions with a vote. Pairs outlive them: they hold their own texts."""
    datasets_days: NonNegativeFloat = 90.0
    """Frozen data sets, from the day on which the last release trained on them can be deployed no more."""
    audit_days: NonNegativeFloat = 365.0
    """The audit log; it holds no text."""
    every_seconds: PositiveFloat = 3600.0
    """How often the job runs."""
    batch_rows: PositiveInt = 500
    """Rows deleted in one transaction, so that votes never wait for long."""


class PrivacySettings(Section):
    """Of people: what is taken out of texts, and how long records are kept."""

    redaction: RedactionMode = "off"
    """`before_training`: placeholders instead of e-mail addresses, phone numbers, cards, ids and keys in data sets, the
    same on both sides of a pair. `before_storage`: already in what is recorded of chats and votes."""
    presidio: PresidioSettings = PresidioSettings()
    retention: RetentionSettings = RetentionSettings()
