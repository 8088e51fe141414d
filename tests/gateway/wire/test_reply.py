"""From what an engine says to what a client sees: counted, cleaned, and ended only when everything ended."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.wire.events import EventSplitter
from gateway.wire.reply import BrokenOff, Signature, StreamedAnswer, WholeAnswer

SIGNATURE = Signature("chatcmpl-1", 1, "assistant-1", "rel_1")
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "assistant-1", "system_fingerprint": "rel_1"}


def chunk(content: Any = "x", finish_reason: str | None = None, index: int = 0, **fields: Any) -> bytes:
    delta = {"content": content} | fields.pop("delta", {})
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason} | fields
    return json.dumps({"id": "engine-1", "model": "weights", "choices": [choice], "token_ids": [1]}).encode()


def told(event: bytes | None) -> dict[str, Any]:
    assert event is not None
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    body: dict[str, Any] = json.loads(event[6:])
    return body


def whole(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def test_an_answer_is_finished_when_every_choice_that_was_asked_for_is() -> None:
    answer = StreamedAnswer(SIGNATURE, 2)
    for raw, finished in [(chunk("x", "stop"), False), (chunk(index=1), False), (chunk("", "length", 1), True)]:
        answer.take(raw)
        assert answer.finished is finished
    assert answer.finish_reasons() == ["stop", "length"]


def test_a_chunk_of_text_says_only_what_openai_says() -> None:
    answer = StreamedAnswer(SIGNATURE)
    expected = HEAD | {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": 'a "b" \n é 好'}, "logprobs": None, "finish_reason": None}],
    }
    assert told(answer.take(chunk('a "b" \n é 好', stop_reason=7, token_ids=[1]))) == expected


def test_usage_stands_in_every_chunk_only_if_the_client_asked_for_it() -> None:
    asked, not_asked = StreamedAnswer(SIGNATURE, usage=True), StreamedAnswer(SIGNATURE)
    for raw in (chunk(), chunk("", "stop"), chunk("", delta={"role": "assistant"})):
        assert told(asked.take(raw))["usage"] is None
        assert "usage" not in told(not_asked.take(raw))


def test_usage_that_the_engine_leaves_out_is_zero() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert told(StreamedAnswer(SIGNATURE).usage_event())["usage"] == zeros
    assert json.loads(WholeAnswer(SIGNATURE).take(whole(content="x")))["usage"] == zeros


def test_counts_of_the_engine_are_kept_and_its_own_ones_dropped() -> None:
    answer = StreamedAnswer(SIGNATURE)
    usage = {"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": 4}, "x": 1}
    assert answer.take(json.dumps({"choices": [], "usage": usage}).encode()) is None
    shown = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    assert json.loads(answer.usage_json()) == shown | {"prompt_tokens_details": {"cached_tokens": 4}}


def test_a_reply_without_a_finish_reason_is_not_finished() -> None:
    answer = WholeAnswer(SIGNATURE)
    answer.take(b'{"choices": [{"message": {"content": "x"}}]}')
    assert not answer.finished


@pytest.mark.parametrize("content", [7, ["a"], {"text": "a"}, True])
def test_what_is_not_text_is_never_taken_for_it(content: Any) -> None:
    answer = StreamedAnswer(SIGNATURE)
    answer.take(chunk())
    with pytest.raises(UpstreamError):
        answer.take(chunk(content))
    assert json.loads(answer.choices_json())[0]["message"]["content"] == "x"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_what_the_model_thought_is_shown_under_both_names_and_stored_apart(name: str) -> None:
    answer = StreamedAnswer(SIGNATURE)
    delta = told(answer.take(chunk(None, delta={name: "hm"})))["choices"][0]["delta"]
    assert delta == {"reasoning": "hm", "reasoning_content": "hm"}
    answer.take(chunk("so", "stop"))
    message = {"role": "assistant", "content": "so", "reasoning": "hm"}
    assert json.loads(answer.choices_json()) == [{"index": 0, "message": message, "finish_reason": "stop"}]


def test_a_strict_surface_shows_no_reasoning_but_stores_it() -> None:
    answer = WholeAnswer(SIGNATURE, reasoning=False)
    shown = json.loads(answer.take(whole(content="so", reasoning="hm")))["choices"][0]["message"]
    assert shown == {"role": "assistant", "content": "so", "refusal": None}
    assert json.loads(answer.choices_json())[0]["message"]["reasoning"] == "hm"


def test_tool_calls_come_in_pieces_and_are_stored_whole() -> None:
    answer = StreamedAnswer(SIGNATURE)
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
    second = {"index": 0, "function": {"arguments": ":1}"}, "engine": "x"}
    assert told(answer.take(chunk(None, delta={"tool_calls": [first]})))["choices"][0]["delta"]["tool_calls"] == [first]
    shown = told(answer.take(chunk(None, "tool_calls", delta={"tool_calls": [second]})))["choices"][0]
    assert shown["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": ":1}"}}]
    assert shown["finish_reason"] == "tool_calls"
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    assert json.loads(answer.choices_json())[0]["message"]["tool_calls"] == [call]


def test_log_probabilities_lose_what_the_engine_added() -> None:
    entry = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": [], "rank": 1}
    shown = told(StreamedAnswer(SIGNATURE).take(chunk("x", logprobs={"content": [entry]})))["choices"][0]["logprobs"]
    clean = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    assert shown == {"content": [clean], "refusal": None}


def delta_of(event: bytes | None) -> Any:
    return told(event)["choices"][0]["delta"]


def test_who_speaks_is_told_once_however_often_an_engine_says_it() -> None:
    answer = StreamedAnswer(SIGNATURE, 2)
    deltas = [delta_of(answer.take(chunk(text, delta={"role": "assistant"}))) for text in ("a", "b")]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b"}]
    assert delta_of(answer.take(chunk("", "stop", delta={"role": "assistant"}))) == {}
    assert delta_of(answer.take(chunk("c", index=1, delta={"role": "assistant"})))["role"] == "assistant"


def test_who_speaks_is_told_at_once_unless_the_answer_is_patient() -> None:
    hasty, patient = StreamedAnswer(SIGNATURE), StreamedAnswer(SIGNATURE, patient=True)
    assert delta_of(hasty.take(chunk("", delta={"role": "assistant"}))) == {"role": "assistant", "content": ""}
    assert delta_of(hasty.take(chunk("a"))) == {"content": "a"}
    assert patient.take(chunk("", delta={"role": "assistant"})) is None
    assert delta_of(patient.take(chunk("a"))) == {"role": "assistant", "content": "a"}
    assert delta_of(patient.take(chunk("b"))) == {"content": "b"}


def test_an_engine_that_breaks_off_in_a_stream_is_left_to_its_dialect() -> None:
    with pytest.raises(BrokenOff) as raised:
        StreamedAnswer(SIGNATURE).take(b'{"error": {"message": "secret", "code": 500}}')
    assert "secret" not in raised.value.message
    assert raised.value.said == {"message": "secret", "code": 500}


def test_an_empty_chunk_tells_nothing() -> None:
    answer = StreamedAnswer(SIGNATURE)
    assert answer.take(chunk("")) is None
    assert answer.take(chunk(None)) is None


@pytest.mark.parametrize("reason", ["abort", "error", "whatever"])
def test_an_answer_that_was_given_up_is_no_answer(reason: str) -> None:
    with pytest.raises(UpstreamError):
        StreamedAnswer(SIGNATURE).take(chunk("", reason))


@pytest.mark.parametrize("raw", [b'{"choices":[{"delta":{},"index":1}]}', b'{"choices":[{"delta":{},"index":-1}]}'])
def test_a_choice_that_nobody_asked_for_is_nonsense(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        StreamedAnswer(SIGNATURE).take(raw)


def test_an_error_in_the_stream_is_told_in_bounds() -> None:
    raw = json.dumps({"error": {"message": "m" * 10_000}}).encode()
    with pytest.raises(UpstreamError) as raised:
        StreamedAnswer(SIGNATURE).take(raw)
    assert len(raised.value.message) < 600


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=5))
def test_whatever_an_engine_says_is_an_answer_or_an_upstream_error(value: Any) -> None:
    for body in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"delta": value}]}):
        for answer in (StreamedAnswer(SIGNATURE), WholeAnswer(SIGNATURE)):
            try:
                answer.take(msgspec.json.encode(body))
            except UpstreamError:
                continue


@given(
    st.lists(st.text(alphabet='abc é"', max_size=8), max_size=6), st.lists(st.integers(1, 7), min_size=1, max_size=40)
)
def test_events_are_the_same_however_their_bytes_are_cut(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(b": ping\n\ndata: " + json.dumps(text).encode() + b"\r\n\r\n" for text in texts)
    splitter, found, at = EventSplitter(), [], 0
    for position in range(len(data)):
        size = cuts[position % len(cuts)]
        found += splitter.payloads(data[at : at + size])
        at += size
    assert [json.loads(payload) for payload in found] == texts


def test_a_line_without_end_is_refused() -> None:
    splitter = EventSplitter()
    for _ in range(4):
        splitter.payloads(b"x" * (1 << 20))
    with pytest.raises(UpstreamError):
        splitter.payloads(b"x")


@pytest.mark.parametrize(
    "content", ["", "plain", 'quo"ted\\ and\nlined', "\u4f60\u597d \U0001f600", "\x00\x1f</script>"]
)
def test_a_text_alone_is_shown_and_stored_as_any_other_answer_is(content: str) -> None:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    alone, among_two = WholeAnswer(SIGNATURE), WholeAnswer(SIGNATURE, 2)
    shown = json.loads(alone.take(json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3}}).encode()))
    shown_twice = json.loads(
        among_two.take(json.dumps({"choices": [choice, choice | {"index": 1}], "usage": {"prompt_tokens": 3}}).encode())
    )
    assert shown["choices"] == shown_twice["choices"][:1]
    assert list(shown) == list(shown_twice)
    assert shown["choices"][0]["message"]["content"] == content
    assert json.loads(alone.choices_json()) == json.loads(among_two.choices_json())[:1]
    assert alone.finished


def test_a_reply_of_tool_calls_alone_has_no_text() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    reply = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    shown = json.loads(WholeAnswer(SIGNATURE).take(json.dumps(reply).encode()))["choices"][0]["message"]
    assert shown["content"] is None
    assert shown["tool_calls"] == [call]
