"""What makes two prompts the same, and which calls are no prompts of people at all."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.contracts.message import Message
from gateway.errors import InvalidRequest
from gateway.feedback.completions import PromptMismatch, is_task_call, without_ignored
from gateway.sections.learning import TASK_PROMPTS
from gateway.settings import FeedbackSettings, IgnoredText

CLOCK = IgnoredText(role="system", pattern=r"Now: \d\d:\d\d\.")
CONTEXT = IgnoredText(pattern=r"<context>.*?</context>")


def chat(system: str, user: str) -> tuple[Message, ...]:
    return Message(role="system", content=system), Message(role="user", content=user)


def test_what_matches_is_left_out_in_the_role_it_is_ignored_in() -> None:
    left = without_ignored(chat("Be kind. Now: 10:05.", "Now: 10:05. Go"), (CLOCK,))
    assert [message.content for message in left] == ["Be kind. ", "Now: 10:05. Go"]


def test_a_pattern_may_reach_over_lines_and_into_parts() -> None:
    parts = (
        {"type": "text", "text": "<context>a\nb</context>为什么?"},
        {"type": "image_url", "image_url": {"url": "x"}},
    )
    (left,) = without_ignored((Message(role="user", content=parts),), (CONTEXT,))
    assert left.text == "为什么?"
    assert left.content is not None
    assert left.content[1] == parts[1]


async def test_answers_before_and_after_the_clock_moved_are_compared(desk: Any) -> None:
    system = {"role": "system", "content": "Be kind. Now: 10:05."}
    early = await desk.complete("No.", messages=[system, {"role": "user", "content": "Safe?"}])
    system = {"role": "system", "content": "Be kind. Now: 11:40."}
    late = await desk.complete("Yes.", messages=[system, {"role": "user", "content": "Safe?"}])
    with pytest.raises(PromptMismatch, match=r"message 0 \(system\), character 15"):
        await desk.prefer(late, early)
    desk.settings = FeedbackSettings(ignore=(CLOCK,))
    voted = await desk.prefer(late, early)
    assert [pair["state"] for pair in voted.reply["pairs"]] == ["eligible"]
    kinder = await desk.complete("Yes.", messages=[{"role": "system", "content": "Be kinder. Now: 11:40."}])
    with pytest.raises(PromptMismatch, match=r"message 0 \(system\), character 7"):
        await desk.prefer(kinder, early)


def test_a_pattern_that_takes_for_ever_is_refused_in_time() -> None:
    slow = IgnoredText(pattern="(a|aa)+$")
    with pytest.raises(InvalidRequest, match="took too long") as refused:
        without_ignored((Message(role="user", content="a" * 60 + "!"),), (slow,))
    assert refused.value.code == "pattern_too_slow"


def test_a_pattern_that_is_none_is_refused_with_the_settings() -> None:
    with pytest.raises(ValidationError, match="no regular expression"):
        IgnoredText(pattern="(")


@pytest.mark.parametrize(
    ("text", "metadata", "chore"),
    [
        ("### Task:\nGenerate a concise title summarizing the chat history.", {}, True),
        ("### Task:\nGenerate 1-3 broad tags", {}, True),
        ("### Task:\nPredict 3-5 useful messages", {}, True),
        ("### Task:\nSuggest 3-5 relevant follow-up questions", {}, True),
        ("Why?", {"type": "task"}, True),
        ("### Task:\nAnalyze the chat history to determine the necessity of generating search queries", {}, True),
        ("### Task:\nYou are an autocompletion system.", {}, True),
        # Open WebUI's answers from documents are answers that people rate.
        ("### Task:\nRespond to the user query using the provided context", {}, False),
        ("Why?", {}, False),
        ("为什么?", {"task": "title_generation"}, True),
        ("Why?", {"task": "user_response"}, False),
        ("Why?", {"task": "false"}, False),
        ("Why?", {"message_id": "m1"}, False),
    ],
)
def test_calls_for_titles_tags_and_follow_ups_are_chores(text: str, metadata: dict[str, str], chore: bool) -> None:
    assert is_task_call(chat("Be kind.", text), metadata, TASK_PROMPTS) is chore


async def test_a_chore_makes_no_pair(desk: Any) -> None:
    one = await desk.complete("A title", call_metadata={"task": "title"})
    other = await desk.complete("Another", call_metadata={"task": "title"})
    voted = await desk.prefer(one, other)
    assert [(pair["state"], pair["reason"]) for pair in voted.reply["pairs"]] == [("excluded", "task_call")]
