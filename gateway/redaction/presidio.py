"""Names, places and whatever else Presidio's models recognise, beside the built-in detectors.

The package is an extra (`pip install "alignway[presidio]"`) and is loaded only when it is asked for; it needs a model
of each language, for instance `python -m spacy download zh_core_web_sm`.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gateway.errors import StartupFailed
from gateway.redaction.finding import Detector, Finding

KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "MEDICAL_LICENSE": "RECORD",
    "US_SSN": "RECORD",
    "US_PASSPORT": "RECORD",
    "UK_NHS": "RECORD",
}
"""What Presidio calls things that we find as well; its other names are kept."""


class Recognised(Protocol):
    """One result of an analyzer."""

    start: int
    end: int
    entity_type: str


class Analyzer(Protocol):
    """What is used of Presidio's `AnalyzerEngine`."""

    def analyze(
        self, text: str, language: str, entities: list[str] | None = None, score_threshold: float | None = None
    ) -> Sequence[Any]:
        """What is in a text."""
        ...


def detector_of(
    analyzer: Analyzer, languages: Sequence[str], entities: Sequence[str], score_threshold: float
) -> Detector:
    """Ask an analyzer in each language; `entities` by Presidio's names."""

    def find(text: str) -> Iterator[Finding]:
        for language in languages:
            for found in analyzer.analyze(
                text=text, language=language, entities=list(entities), score_threshold=score_threshold
            ):
                yield from _without_placeholders(text, found)

    return find


def load_analyzer(languages: Sequence[str], models: Sequence[str]) -> Analyzer:
    """Presidio's own analyzer with a spaCy model for each language. Raises `StartupFailed`, saying what is missing."""
    try:
        package = importlib.import_module("presidio_analyzer")
        engines = importlib.import_module("presidio_analyzer.nlp_engine")
    except ImportError as error:
        raise StartupFailed(
            "`privacy.presidio.enabled` needs the package presidio-analyzer, which is not installed: run "
            'pip install "alignway[presidio]", or leave the setting off.'
        ) from error
    named = [{"lang_code": lang, "model_name": model} for lang, model in zip(languages, models, strict=True)]
    try:
        provider = engines.NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": named})
        analyzer: Analyzer = package.AnalyzerEngine(
            nlp_engine=provider.create_engine(), supported_languages=list(languages)
        )
    except (OSError, ValueError, SystemExit) as error:
        raise StartupFailed(
            f"Presidio cannot load the spaCy models {', '.join(models)} ({error}); run "
            "python -m spacy download for each, or name others in `privacy.presidio.models`."
        ) from error
    return analyzer


def _without_placeholders(text: str, found: Recognised) -> Iterator[Finding]:
    """A model may take a placeholder, or a part of one, for a name: those stay."""
    stretch = text[max(0, found.start - 1) : found.end + 1]
    if "[" not in stretch and "]" not in stretch:
        yield Finding(found.start, found.end, KINDS.get(found.entity_type, found.entity_type))
