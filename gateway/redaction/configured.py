"""The redaction that the settings ask for, made once for each: Presidio's models take seconds to load."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from gateway.contracts.pair import FeedbackPair
from gateway.redaction.finding import Detector
from gateway.redaction.pair import redact_pair
from gateway.redaction.presidio import detector_of, load_analyzer
from gateway.redaction.records import redact_completion, redact_vote
from gateway.settings import PrivacySettings

Row = TypeVar("Row", bound=Any)
RedactPair = Callable[[FeedbackPair], tuple[FeedbackPair, Counter[str]]]


class StorageRedaction:
    """What is done to records before they are written."""

    def __init__(self, extra: Sequence[Detector]) -> None:
        self._extra = tuple(extra)

    def completion(self, row: Row) -> Row:
        """A row of the completion log (a named tuple with JSON in `messages` and `choices`) with placeholders."""
        messages, choices = redact_completion(row.messages, row.choices, self._extra)
        redacted: Row = row._replace(messages=messages, choices=choices)
        return redacted

    def vote(self, body: Any) -> Any:
        """The body of a vote with placeholders."""
        return redact_vote(body, self._extra)


@lru_cache(maxsize=4)
def extra_detectors(settings: PrivacySettings) -> tuple[Detector, ...]:
    """Detectors besides the built-in ones. Raises `StartupFailed` if Presidio is asked for and missing."""
    presidio = settings.presidio
    if not presidio.enabled:
        return ()
    analyzer = load_analyzer(presidio.languages, presidio.models)
    return (detector_of(analyzer, presidio.languages, presidio.entities, presidio.score_threshold),)


def training_redaction(settings: PrivacySettings) -> RedactPair | None:
    """What `before_training` asks for; None in the other modes."""
    if settings.redaction != "before_training":
        return None
    extra = extra_detectors(settings)
    return lambda pair: redact_pair(pair, extra)


@lru_cache(maxsize=4)
def storage_redaction(settings: PrivacySettings) -> StorageRedaction | None:
    """What `before_storage` asks for; None in the other modes."""
    return StorageRedaction(extra_detectors(settings)) if settings.redaction == "before_storage" else None
