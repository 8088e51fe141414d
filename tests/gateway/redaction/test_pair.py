"""Redaction never tells the sides of a pair apart, reaches every text in it, and leaves the rest alone."""

import json
from datetime import UTC, datetime
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.redaction.finding import Finding
from gateway.redaction.pair import flaw_after_redaction, redact_pair
from gateway.redaction.text import Redactor
from gateway.redaction.values import redact_value


def pair(prompt: str, chosen: Any, rejected: Any) -> FeedbackPair:
    def side(message: Any) -> Side:
        message = message if isinstance(message, Message) else Message(role="assistant", content=message)
        return Side(message=message, origin="model")

    return FeedbackPair(
        id="pair_1",
        project_id="proj_1",
        prompt=(Message(role="user", content=prompt),),
        prompt_hash="ph_1",
        chosen=side(chosen),
        rejected=side(rejected),
        weight=1.0,
        rater=Rater(id_hash="r_1", kind="end_user"),
        feedback_ids=("fb_1",),
        judged_at=datetime(2026, 11, 27, tzinfo=UTC),
    )


def test_one_address_has_one_placeholder_on_every_side() -> None:
    redacted, counts = redact_pair(
        pair("Write to amy@example.org and bob@example.org.", "To BOB@example.org: hello", "To amy@example.org: hello")
    )
    assert redacted.prompt[0].content == "Write to [EMAIL_1] and [EMAIL_2]."
    assert redacted.chosen.message.content == "To [EMAIL_2]: hello"
    assert redacted.rejected.message.content == "To [EMAIL_1]: hello"
    assert counts == {"EMAIL": 4}
    assert redacted.prompt_hash == "ph_1"
    assert flaw_after_redaction(redacted) is None


def test_one_number_has_one_placeholder_however_it_is_written_in_chinese() -> None:
    redacted, counts = redact_pair(
        pair("我的手机是138 0013 8000", "已记下+86 138-0013-8000。", "已记下１３８００１３８０００。再见。")
    )
    assert redacted.prompt[0].content == "我的手机是[PHONE_1]"
    assert redacted.chosen.message.content == "已记下[PHONE_1]。"
    assert redacted.rejected.message.content == "已记下[PHONE_1]。再见。"
    assert counts == {"PHONE": 3}


def test_sides_that_differ_only_in_how_a_thing_is_written_are_dropped_with_a_reason() -> None:
    redacted, _ = redact_pair(pair("电话?", "打13800138000", "打138-0013-8000"))
    assert flaw_after_redaction(redacted) == "identical_after_redaction"


def test_sides_that_name_different_people_stay_a_pair() -> None:
    redacted, _ = redact_pair(pair("Who?", "amy@example.org", "bob@example.org"))
    assert (redacted.chosen.message.content, redacted.rejected.message.content) == ("[EMAIL_1]", "[EMAIL_2]")
    assert flaw_after_redaction(redacted) is None


def test_a_pair_without_personal_data_is_the_same_object() -> None:
    clean = pair("What is 2 + 2?", "4", "5")
    redacted, counts = redact_pair(clean)
    assert redacted is clean
    assert not counts


def test_content_parts_reasoning_and_tool_calls_are_redacted_and_arguments_stay_json() -> None:
    call = {
        "id": "call_13800138000",
        "type": "function",
        "function": {
            "name": "send",
            "arguments": '{"to": "amy@example.org", "data": "amy@example.org", "phone": 13800138000, "n": 3}',
        },
    }
    chosen = Message(role="assistant", reasoning="amy@example.org asked", tool_calls=(call,))
    parts = Message(
        role="assistant",
        content=(
            {"type": "text", "text": "ask amy@example.org"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,amy@example.org"}},
        ),
    )
    redacted, counts = redact_pair(pair("Send it.", chosen, parts))
    message = redacted.chosen.message
    assert message.reasoning == "[EMAIL_1] asked"
    assert message.tool_calls is not None
    assert message.tool_calls[0]["id"] == "call_13800138000"
    arguments = json.loads(message.tool_calls[0]["function"]["arguments"])
    assert arguments == {"to": "[EMAIL_1]", "data": "[EMAIL_1]", "phone": "[PHONE_1]", "n": 3}
    assert isinstance(redacted.rejected.message.content, tuple)
    assert redacted.rejected.message.content[0]["text"] == "ask [EMAIL_1]"
    assert redacted.rejected.message.content[1]["image_url"]["url"] == "data:image/png;base64,amy@example.org"
    assert counts == {"EMAIL": 4, "PHONE": 1}


def test_placeholders_that_stand_in_a_text_are_not_given_to_other_things() -> None:
    redacted, _ = redact_pair(pair("Was [EMAIL_1] told?", "Yes, as was amy@example.org.", "No, [EMAIL_3] was."))
    assert redacted.chosen.message.content == "Yes, as was [EMAIL_4]."
    again, counts = redact_pair(redacted)
    assert again == redacted
    assert not counts


def test_arguments_that_are_no_json_are_redacted_as_text() -> None:
    redacted = redact_value({"arguments": '{"to": "amy@example.org'}, Redactor())
    assert redacted == {"arguments": '{"to": "[EMAIL_1]'}


def test_detectors_from_elsewhere_add_their_kinds() -> None:
    def people(text: str) -> list[Finding]:
        at = text.find("王小明")
        return [Finding(at, at + 3, "PERSON")] if at >= 0 else []

    redacted, counts = redact_pair(pair("王小明是谁？", "王小明的邮箱是wang@example.cn", "不知道"), [people])
    assert redacted.prompt[0].content == "[PERSON_1]是谁？"
    assert redacted.chosen.message.content == "[PERSON_1]的邮箱是[EMAIL_1]"
    assert counts == {"PERSON": 2, "EMAIL": 1}
