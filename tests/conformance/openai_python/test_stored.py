"""Stored completions through the openai SDK: listed page by page, shown, tagged, deleted."""

import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionDeleted, ChatCompletionStoreMessage

from tests.conformance.openai_python.conftest import QUESTION, Asking
from tests.conformance.strict import check, check_error


@pytest.fixture(scope="module")
def run() -> str:
    """A tag of this run alone."""
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def replies(ask: Asking, run: str) -> list[ChatCompletion]:
    """Five completions, in the order they were asked for."""
    return [ask.whole(max_tokens=2, store=True, metadata={"run": run, "number": str(number)}) for number in range(5)]


def test_a_completion_is_shown_as_it_was_answered(client: OpenAI, replies: list[ChatCompletion], run: str) -> None:
    response = client.chat.completions.with_raw_response.retrieve(replies[0].id)
    check(ChatCompletion, response.http_response.json())
    stored = response.parse()
    asked = replies[0]
    assert (stored.id, stored.model, stored.system_fingerprint) == (asked.id, asked.model, asked.system_fingerprint)
    assert stored.choices[0].message.content == asked.choices[0].message.content
    assert stored.choices[0].finish_reason == asked.choices[0].finish_reason
    assert stored.metadata == {"run": run, "number": "0"}


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_follow_each_other(client: OpenAI, replies: list[ChatCompletion], run: str, order: Any) -> None:
    expected = [reply.id for reply in replies]
    page = client.chat.completions.list(metadata={"run": run}, limit=2, order=order)
    assert len(page.data) == 2
    assert page.has_next_page()
    assert [stored.id for stored in page] == (expected if order == "asc" else expected[::-1])


def test_a_page_is_openais_list(client: OpenAI, replies: list[ChatCompletion], run: str) -> None:
    body = client.chat.completions.with_raw_response.list(metadata={"run": run}, limit=2).http_response.json()
    assert body.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    assert (body["object"], body["has_more"]) == ("list", True)
    assert (body["first_id"], body["last_id"]) == (replies[0].id, replies[1].id)
    for stored in body["data"]:
        check(ChatCompletion, stored)


def test_the_prompt_is_shown_message_by_message(client: OpenAI, replies: list[ChatCompletion]) -> None:
    response = client.chat.completions.messages.with_raw_response.list(replies[0].id)
    for message in response.http_response.json()["data"]:
        # The SDK's type says `assistant` for every role there is.
        check(ChatCompletionStoreMessage, message | {"role": "assistant"})
    messages = list(client.chat.completions.messages.list(replies[0].id))
    assert [(message.role, message.content) for message in messages] == [("user", QUESTION)]


def test_metadata_is_replaced(client: OpenAI, ask: Asking, run: str) -> None:
    reply = ask.whole(max_tokens=2, metadata={"before": "1"})
    changed = client.chat.completions.update(reply.id, metadata={"after": "2"})
    check(ChatCompletion, changed.to_dict(exclude_unset=True))
    assert changed.metadata == {"after": "2"}
    assert client.chat.completions.retrieve(reply.id).metadata == {"after": "2"}


def test_what_was_deleted_is_gone(client: OpenAI, ask: Asking) -> None:
    reply = ask.whole(max_tokens=2)
    deleted = client.chat.completions.delete(reply.id)
    check(ChatCompletionDeleted, deleted.to_dict(exclude_unset=True))
    assert (deleted.id, deleted.deleted) == (reply.id, True)
    for call in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(reply.id)
        check_error(caught.value.response.json())


def test_what_was_not_to_be_stored_is_not(client: OpenAI, ask: Asking) -> None:
    reply = ask.whole(max_tokens=2, store=False)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(reply.id)


def test_a_streamed_completion_is_stored_when_its_last_chunk_has_come(client: OpenAI, ask: Asking) -> None:
    chunks = ask.chunks(max_tokens=2)
    stored = client.chat.completions.retrieve(chunks[0].id)
    assert stored.choices[0].message.content == "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices
    )
