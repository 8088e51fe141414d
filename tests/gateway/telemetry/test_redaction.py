"""No key reaches a log, wherever in an event it stands and however it is wrapped."""

import json
import logging
import string
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.logs import configure_logs
from gateway.telemetry.redaction import redact_event, redacted

SECRET_PART = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=60)
PLAIN = st.text(max_size=30)
SEPARATOR = st.sampled_from([" ", "\n", "\t", '"', "'", ":", "=", "(", "[", ", "])


@st.composite
def events(draw: Any, secret: str) -> Any:
    """Plain data with the secret text somewhere in it: as a value, in a name, in bytes, in an object's text."""

    class Thing:
        def __repr__(self) -> str:
            return f"<Thing {secret}>"

    text = draw(PLAIN) + draw(SEPARATOR) + secret + draw(SEPARATOR) + draw(PLAIN)
    leaf = st.sampled_from([text, text.encode(), ValueError(text), Thing(), {text: 1}])
    nested = st.recursive(leaf, lambda inner: st.lists(inner, min_size=1, max_size=3) | st.tuples(inner)
                          | st.dictionaries(PLAIN, inner, min_size=1, max_size=3), max_leaves=5)  # fmt: skip
    return {"event": draw(PLAIN), draw(PLAIN): draw(nested)}


def rendered(event: Any) -> str:
    return str(structlog.processors.JSONRenderer(default=str)(None, "info", dict(redact_event(None, "info", event))))


@given(st.data(), SECRET_PART)
def test_no_key_survives_anywhere_in_an_event(data: st.DataObject, part: str) -> None:
    line = rendered(data.draw(events(f"sk-s3cret{part}")))
    assert "s3cret" not in line
    json.loads(line)


@given(
    st.data(),
    st.text(string.ascii_letters + string.digits + "._~+/=-", min_size=8),
    st.sampled_from(["Bearer", "bearer", "BEARER"]),
)
def test_no_bearer_token_survives_anywhere_in_an_event(data: st.DataObject, token: str, word: str) -> None:
    line = rendered(data.draw(events(f"{word} {token}")))
    assert f"{word} {token}" not in line
    assert "[redacted]" in line


@given(
    st.text(string.ascii_letters + " .,", max_size=200).filter(
        lambda text: "earer" not in text and "asic" not in text.lower()
    )
)
def test_text_without_a_key_is_left_alone(text: str) -> None:
    assert redacted(text.lower()) == text.lower()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Authorization: Bearer abc123, next", "Authorization: Bearer [redacted], next"),
        ('{"key": "sk-01jd_x-Y", "n": 1}', '{"key": "sk-[redacted]", "n": 1}'),
        ("postgresql+asyncpg://alignway:hunter2@db/alignway", "postgresql+asyncpg://alignway:[redacted]@db/alignway"),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        (
            "a task-force of risk-takers asks http://host:8080/x@y",
            "a task-force of risk-takers asks http://host:8080/x@y",
        ),
    ],
)
def test_what_is_blotted_out_and_what_is_not(before: str, after: str) -> None:
    assert redacted(before) == after


def test_fields_that_hold_secrets_are_blotted_out_whatever_they_look_like() -> None:
    event = {"event": "x", "headers": {"Authorization": "plain-admin-key", "X-Api-Key": "k", "accept": "*/*"}, "n": 3}
    assert redact_event(None, "info", event) == {
        "event": "x",
        "headers": {"Authorization": "[redacted]", "X-Api-Key": "[redacted]", "accept": "*/*"},
        "n": 3,
    }


def test_own_events_and_those_of_libraries_are_json_lines_without_keys(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    try:
        structlog.get_logger("ours").warning("engine_refused", said="key sk-verysecret1 is wrong", tokens=7)
        try:
            raise ValueError("Bearer verysecret2")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in application with sk-%s", "verysecret3")
        logging.getLogger("uvicorn.error").info("not a warning")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], ours["tokens"]) == ("engine_refused", "warning", 7)
    assert ours["said"] == "key sk-[redacted] is wrong"
    assert (theirs["level"], theirs["logger"]) == ("error", "uvicorn.error")
    assert "ValueError: Bearer [redacted]" in theirs["exception"]
    assert "verysecret" not in json.dumps(theirs)
