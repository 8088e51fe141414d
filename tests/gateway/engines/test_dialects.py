"""What engines are told, and what their answers are made of: rules that need no engine."""

import json
from typing import Any

import pytest

from gateway.engines.dialects import dialect_of
from gateway.engines.mending import Assembly, Mending
from gateway.engines.stops import StopFinder
from gateway.engines.token_text import Vocabulary
from gateway.errors import InvalidRequest

Json = dict[str, Any]


def told(kind: str, fields: Json) -> Json:
    encoded = json.dumps(fields).encode()
    decoded = json.loads(dialect_of(kind).parameters(encoded, fields.get("n") or 1))
    assert isinstance(decoded, dict)
    return decoded


@pytest.mark.parametrize("kind", ["vllm", "scripted", "url"])
def test_what_needs_no_translation_is_not_even_copied(kind: str) -> None:
    parameters, messages = b'{"temperature":0,"stop":["a"]}', b'[{"role":"developer","content":"x"}]'
    assert dialect_of(kind).parameters(parameters) is parameters
    assert dialect_of(kind).messages(messages) is messages
    assert not dialect_of(kind).mends(parameters)


def test_several_choices_at_temperature_0_are_asked_of_vllm_as_the_likeliest_token() -> None:
    assert told("vllm", {"n": 2, "temperature": 0, "seed": 1}) == {"n": 2, "temperature": 1.0, "top_k": 1, "seed": 1}
    assert told("vllm", {"n": 2, "temperature": 0.5}) == {"n": 2, "temperature": 0.5}
    assert told("vllm", {"n": 2}) == {"n": 2}


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_that_lmdeploy_would_ignore_is_refused(penalty: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        told("lmdeploy", {penalty: 0.5})
    assert (raised.value.param, raised.value.status) == (penalty, 400)
    assert "lmdeploy" not in raised.value.message.lower()
    assert told("lmdeploy", {penalty: 0.0, "seed": 1}) == {"seed": 1}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"tool_choice": None, "top_p": 0.5}, {"top_p": 0.5}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 7}, {"top_k": 7}),
        ({"seed": -1}, {"seed": 2**63 - 1}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"n": 3, "temperature": 0}, {"n": 3, "temperature": 0}),
        (
            {"reasoning_effort": "minimal"},
            {"chat_template_kwargs": {"reasoning_effort": "minimal", "enable_thinking": True}},
        ),
        (
            {"reasoning_effort": "none"},
            {"chat_template_kwargs": {"reasoning_effort": "none", "enable_thinking": False}},
        ),
        (
            {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
            {"chat_template_kwargs": {"reasoning_effort": "high", "enable_thinking": False}},
        ),
    ],
)
def test_lmdeploy_is_told_in_its_own_terms(given: Json, expected: Json) -> None:
    assert told("lmdeploy", given) == expected


def test_a_developer_is_a_system_to_lmdeploy() -> None:
    messages = [{"role": "developer", "content": "a"}, {"role": "user", "content": 'the "developer" speaks'}]
    assert json.loads(dialect_of("lmdeploy").messages(json.dumps(messages).encode())) == [
        {"role": "system", "content": "a"},
        {"role": "user", "content": 'the "developer" speaks'},
    ]
    plain = b'[{"role":"user","content":"a"}]'
    assert dialect_of("lmdeploy").messages(plain) is plain


@pytest.mark.parametrize(("fields", "mends"), [({"stop": "a"}, True), ({"logprobs": True}, True), ({"n": 2}, False)])
def test_it_is_known_beforehand_whose_answers_need_mending(fields: Json, mends: bool) -> None:
    assert dialect_of("lmdeploy").mends(json.dumps(fields).encode()) is mends
    assert (dialect_of("lmdeploy").mending(fields) is not None) is mends


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize(
    ("text", "stops", "shown", "found"),
    [
        ("one two three", ("two",), "one ", True),
        ("one two three", ("three", "two"), "one ", True),
        ("aaab", ("aab",), "a", True),
        ("ababac", ("abac",), "ab", True),
        ("almost sto", ("stop",), "almost sto", False),
        ("Ünïcödé\n\nx", ("\n\n",), "Ünïcödé", True),
        ("stop", ("stop",), "", True),
    ],
)
def test_a_stop_is_found_however_the_text_is_split(
    text: str, stops: tuple[str, ...], shown: str, found: bool, size: int
) -> None:
    finder, seen, ended = StopFinder(stops), "", False
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for number, piece in enumerate(pieces):
        part, ended = finder.take(piece, last=number == len(pieces) - 1)
        seen += part
        if ended:
            break
        assert not any(stop in seen for stop in stops)
    assert (seen, ended) == (shown, found)


def test_text_that_can_be_no_beginning_of_a_stop_is_not_held_back() -> None:
    finder = StopFinder(("END",))
    assert [finder.take(piece, last=False)[0] for piece in ("ab", "E", "N", "x", "y")] == ["ab", "", "", "ENx", "y"]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (["ĠThe", "Ċ", "hello", "Ã©"], [b" The", b"\n", b"hello", "é".encode()]),
        (["Ġa", "Ã", "©"], [b" a", b"\xc3", b"\xa9"]),
        (["▁The", "<0x0A>", "é", "hello"], [b" The", b"\n", "é".encode(), b"hello"]),
        (["plain", "é"], [b"plain", "é".encode()]),
        (["Ġ<0x0A>"], [b" <0x0A>"]),
    ],
)
def test_pieces_of_both_kinds_of_vocabulary_become_text(pieces: list[str], texts: list[bytes]) -> None:
    vocabulary = Vocabulary()
    for piece in pieces:
        vocabulary.look_at(piece)
    assert [vocabulary.bytes_of(piece) for piece in pieces] == texts


def chunk(text: str, *, index: int = 0, reason: str | None = None, ids: int = 1, **delta: Any) -> Json:
    choice = {"index": index, "delta": {"role": "assistant", "content": text} | delta, "output_ids": [5] * ids}
    return {"id": "chatcmpl-x", "choices": [choice | ({"finish_reason": reason} if reason else {})]}


def run(mending: Mending, chunks: list[Json]) -> tuple[Json, int]:
    """The whole reply, and how many chunks were read before the engine was left."""
    assembly, read = Assembly(), 0
    for raw in chunks:
        read += 1
        if (mended := mending.chunk(raw)) is not None:
            assembly.take(mended)
        if mending.cut:
            break
    return assembly.reply(), read


def test_an_engine_is_left_at_the_stop_and_its_tokens_are_counted() -> None:
    mending = Mending({"model": "weights", "messages": [], "stop": "ver", "max_tokens": 99})
    reply, read = run(mending, [chunk("the "), chunk("Ri"), chunk("ve"), chunk("r of"), chunk(" life")])
    (choice,) = reply["choices"]
    assert (choice["message"]["content"], choice["finish_reason"], read) == ("the Ri", "stop", 4)
    counts = {"prompt_tokens": 34, "completion_tokens": 4, "total_tokens": 38}
    details = {"prompt_tokens_details": {"cached_tokens": 2}}
    assert mending.usage({"prompt_tokens": 34, **details}) == counts | details


def test_choices_stop_one_by_one() -> None:
    mending = Mending({"n": 2, "stop": ["."]})
    chunks = [chunk("a.b"), chunk("c", index=1), chunk("gone"), chunk("d.e", index=1), chunk("never", index=1)]
    reply, read = run(mending, chunks)
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["a", "cd"]
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["stop", "stop"]
    assert read == 4


def test_an_answer_that_ends_by_itself_keeps_the_engines_counts() -> None:
    mending = Mending({"stop": ["END"]})
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    reply, read = run(mending, [chunk("ab"), chunk("E"), chunk("", reason="length", ids=0), usage])
    assert reply["choices"][0]["message"]["content"] == "abE"
    assert (reply["choices"][0]["finish_reason"], reply["usage"], read) == ("length", usage["usage"], 4)


def test_a_tool_call_after_held_text_comes_after_it() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": '{"a":1}'}}
    mending = Mending({"stop": ["END"]})
    chunks = [chunk("E"), chunk("", tool_calls=[call]), chunk("", tool_calls=[rest]), chunk("", reason="tool_calls")]
    message = run(mending, chunks)[0]["choices"][0]["message"]
    assert message["content"] == "E"
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    ]


def test_the_engine_never_hears_of_stops() -> None:
    body = {"model": "weights", "messages": [], "stop": ["a"], "n": 2, "max_tokens": 50, "temperature": 0}
    mending = Mending(body)
    assert mending.in_stream
    kept = {"model": "weights", "messages": [], "n": 2, "max_tokens": 50, "temperature": 0}
    added = {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
    assert mending.request() == kept | added
    assert mending.probe() == {"model": "weights", "messages": [], "temperature": 0, "max_completion_tokens": 1}


def entry(token: str, logprob: float, *others: tuple[str, float]) -> Json:
    top = [{"token": name, "logprob": value, "bytes": []} for name, value in others]
    return {"token": token, "logprob": logprob, "bytes": [], "top_logprobs": top}


def test_the_chosen_token_stands_among_the_likeliest_which_are_as_many_as_asked() -> None:
    mending = Mending({"logprobs": True, "top_logprobs": 2})
    content = [entry("Ġb", -1.5, ("Ġa", -0.5), ("c", -3.0)), entry("x", -0.1, ("y", -2.0), ("z", -4.0))]
    reply = mending.reply({"choices": [{"index": 0, "logprobs": {"content": content}}]})
    first, second = reply["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["bytes"]) == (" b", [32, 98])
    assert [top["token"] for top in first["top_logprobs"]] == [" a", " b"]
    assert [top["token"] for top in second["top_logprobs"]] == ["x", "y"]


def test_log_probabilities_without_likeliest_tokens_have_none() -> None:
    content = [entry("a", -1.5, ("b", -0.5))]
    reply = Mending({"logprobs": True}).reply({"choices": [{"index": 0, "logprobs": {"content": content}}]})
    assert reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_log_probabilities_of_held_text_come_with_it() -> None:
    mending = Mending({"logprobs": True, "stop": ["END"]})
    first, second = chunk("E"), chunk("x")
    first["choices"][0]["logprobs"] = {"content": [entry("E", -1.0)]}
    second["choices"][0]["logprobs"] = {"content": [entry("x", -2.0)]}
    assert mending.chunk(first) is None
    shown = mending.chunk(second)
    assert shown is not None
    assert shown["choices"][0]["delta"]["content"] == "Ex"
    assert [token["token"] for token in shown["choices"][0]["logprobs"]["content"]] == ["E", "x"]
