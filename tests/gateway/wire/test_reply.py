"""From what an engine says to what a client sees: counted, cleaned, and ended only when everything ended."""

from typing import Any

import pytest

from gateway.errors import UpstreamError
from gateway.wire.reply import Answer, Signature, clean_usage

SIGNATURE = Signature("chatcmpl-1", 1, "assistant-1", "rel_1")
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def delta(index: int, finish_reason: str | None = None, content: Any = "x") -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish_reason}]}


def test_an_answer_is_finished_when_every_choice_that_was_asked_for_is() -> None:
    answer = Answer(SIGNATURE, 2)
    assert not answer.finished
    answer.chunk(delta(0, "stop"), False)
    assert not answer.finished
    answer.chunk(delta(1), False)
    assert not answer.finished
    answer.chunk(delta(1, "length"), False)
    assert answer.finished


def test_usage_that_the_engine_leaves_out_is_zero_in_chunk_and_reply() -> None:
    assert Answer(SIGNATURE).usage_chunk()["usage"] == ZEROS
    whole = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    assert Answer(SIGNATURE).whole(whole)["usage"] == ZEROS
    assert clean_usage({"prompt_tokens": None, "completion_tokens": 3}) == ZEROS | {"completion_tokens": 3}


def test_a_reply_without_a_finish_reason_is_not_finished() -> None:
    answer = Answer(SIGNATURE)
    answer.whole({"choices": [{"message": {"content": "x"}}]})
    assert not answer.finished


@pytest.mark.parametrize("content", [7, ["a"], {"text": "a"}, True])
def test_what_is_not_text_is_never_taken_for_it(content: Any) -> None:
    answer = Answer(SIGNATURE)
    answer.chunk(delta(0), False)
    with pytest.raises(UpstreamError):
        answer.chunk(delta(0, content=content), False)
    assert answer.choices()[0]["message"]["content"] == "x"
