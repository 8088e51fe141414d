"""Presidio's findings join the built-in ones; without the package the error says what to install."""

import sys
from dataclasses import dataclass

import pytest

from gateway.errors import StartupFailed
from gateway.redaction.configured import extra_detectors
from gateway.redaction.presidio import detector_of
from gateway.redaction.text import Redactor
from gateway.settings import PrivacySettings


@dataclass(frozen=True)
class Result:
    """The fields of Presidio's `RecognizerResult` that are used."""

    start: int
    end: int
    entity_type: str
    score: float


class Names:
    """An analyzer by Presidio's interface that knows two names, one for each language."""

    known = {"en": ("Amy Smith", "PERSON"), "zh": ("王小明", "PERSON")}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str] | None, float | None]] = []

    def analyze(
        self, text: str, language: str, entities: list[str] | None = None, score_threshold: float | None = None
    ) -> list[Result]:
        self.asked.append((language, entities, score_threshold))
        name, kind = self.known[language]
        found = [Result(text.find(name), text.find(name) + len(name), kind, 0.85)] if name in text else []
        at = text.find("PERSON_1")
        return found + ([Result(at, at + 8, "PERSON", 0.6)] if at >= 0 else [])


def test_names_in_both_languages_get_placeholders_beside_the_built_in_kinds() -> None:
    analyzer = Names()
    redactor = Redactor([detector_of(analyzer, ("en", "zh"), ("PERSON",), 0.5)])
    redacted = redactor.redact("Amy Smith wrote to amy@example.org; 王小明的手机13800138000。")
    assert redacted == "[PERSON_1] wrote to [EMAIL_1]; [PERSON_2]的手机[PHONE_1]。"
    assert redactor.counts == {"PERSON": 2, "EMAIL": 1, "PHONE": 1}
    assert analyzer.asked[:2] == [("en", ["PERSON"], 0.5), ("zh", ["PERSON"], 0.5)]


def test_a_placeholder_that_a_model_takes_for_a_name_stays() -> None:
    redactor = Redactor([detector_of(Names(), ("en",), ("PERSON",), 0.5)])
    assert redactor.redact("Ask [PERSON_1].") == "Ask [PERSON_1]."


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    settings = PrivacySettings.model_validate({"presidio": {"enabled": True}})
    with pytest.raises(StartupFailed, match=r'pip install "alignway\[presidio\]"'):
        extra_detectors(settings)


def test_every_language_needs_a_model() -> None:
    with pytest.raises(ValueError, match="one spaCy model for each"):
        PrivacySettings.model_validate({"presidio": {"languages": ["en", "zh"]}})
