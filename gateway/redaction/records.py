"""Redacts what is recorded of chats and votes, for `privacy.redaction = before_storage`. Pure.

Within one record a thing has one placeholder, numbered from the prompt on. So two answers to one prompt agree about
what the prompt names; a thing that only an answer names may have the number that another one has elsewhere.
"""

import json
from collections.abc import Sequence
from typing import Any

from gateway.redaction.finding import Detector
from gateway.redaction.text import Redactor
from gateway.redaction.values import redact_value, reserve_all

FREE_TEXT = ("comment", "message", "input", "preferred_output", "non_preferred_output")
"""Fields of a vote that hold somebody's words, in the order in which they are read."""
MATCH = "match"
"""Names a completion by its words, which are stored redacted."""


def redact_completion(messages: str, choices: str, extra: Sequence[Detector] = ()) -> tuple[str, str]:
    """The prompt and the choices of a completion, both JSON, with placeholders; unchanged if nothing is found."""
    redactor = Redactor(extra)
    prompt, answers = json.loads(messages), json.loads(choices)
    reserve_all((prompt, answers), redactor)
    redacted = redact_value(prompt, redactor), redact_value(answers, redactor)
    if not redactor.counts:
        return messages, choices
    return _compact(redacted[0]), _compact(redacted[1])


def redact_vote(body: Any, extra: Sequence[Detector] = ()) -> Any:
    """The JSON body of a vote with placeholders in its free texts; each row of a batch has its own numbering.

    Ids, names of raters, tags and metadata stay as they are.
    """
    if not isinstance(body, dict):
        return body
    redactor = Redactor(extra)
    reserve_all((body.get(name) for name in FREE_TEXT), redactor)
    redacted = {name: redact_value(body[name], redactor) for name in FREE_TEXT if name in body}
    rest = {name: _redact_targets(value, extra) for name, value in body.items() if name not in redacted}
    return {name: redacted[name] if name in redacted else rest[name] for name in body}


def _redact_targets(value: Any, extra: Sequence[Detector]) -> Any:
    """Rows of a batch, and targets that are named by their words."""
    if isinstance(value, list):
        return [_redact_targets(item, extra) for item in value]
    if not isinstance(value, dict):
        return value
    if any(name in value for name in FREE_TEXT):
        return redact_vote(value, extra)
    if MATCH in value:
        return value | {MATCH: _redact_match(value[MATCH], Redactor(extra))}
    return value


def _redact_match(match: Any, redactor: Redactor) -> Any:
    """The prompt first, as in the record that is looked for."""
    reserve_all((match,), redactor)
    if not isinstance(match, dict):
        return match
    prompt = redact_value(match.get("messages"), redactor)
    return {name: prompt if name == "messages" else redact_value(value, redactor) for name, value in match.items()}


def _compact(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()  # half a character pair, which no database stores
