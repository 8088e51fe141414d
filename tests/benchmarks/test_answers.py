"""An answer that is cut, changed or somebody else's never counts as right."""

import json

import pytest

from benchmarks.gateway.answers import (
    StreamFound,
    WrongAnswer,
    check_reply,
    check_stream,
    nonce_of,
    reply_body,
    sse_data,
    stream_events,
)


def stream(nonce: str = "00000007", chunks: int = 3, with_usage: bool = True) -> bytes:
    return b"".join(stream_events(nonce, "mock", chunks, with_usage))


def test_the_mocks_own_reply_is_right_and_is_an_openai_completion():
    body = reply_body("00000007", "mock")
    check_reply(body, "00000007")
    decoded = json.loads(body)
    assert decoded["object"] == "chat.completion"
    assert decoded["choices"][0]["message"]["content"].startswith("[00000007] river stone lamp")
    assert decoded["usage"]["total_tokens"] == 57 + 41


def test_the_reply_to_another_request_is_wrong():
    with pytest.raises(WrongAnswer, match="another request"):
        check_reply(reply_body("00000008", "mock"), "00000007")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"choices":[]}', b'{"choices":[{"message":{}}]}', b'"text"'])
def test_a_body_that_is_no_completion_is_wrong(body):
    with pytest.raises(WrongAnswer):
        check_reply(body, "00000007")


def test_any_text_is_right_where_the_upstream_is_a_real_model_but_none_is_not():
    check_reply(b'{"choices":[{"message":{"content":"Hello."}}]}', None)
    with pytest.raises(WrongAnswer):
        check_reply(b'{"choices":[{"message":{"content":null}}]}', None)


def test_the_mocks_own_stream_is_right_and_its_chunks_are_counted():
    assert check_stream(stream(), "00000007", 3) == StreamFound(3, has_usage=True)
    assert check_stream(stream(with_usage=False), "00000007", 3) == StreamFound(3, has_usage=False)


def test_a_stream_is_right_however_a_gateway_frames_its_events():
    framed = b": keep-alive\r\n\r\n" + stream().replace(b"data: ", b"data:").replace(b"\n", b"\r\n")
    assert check_stream(framed, "00000007", 3).chunks == 3


def test_a_stream_without_its_end_is_wrong():
    with pytest.raises(WrongAnswer, match=r"\[DONE\]"):
        check_stream(stream().replace(b"data: [DONE]\n\n", b""), "00000007", 3)


def test_a_stream_that_lost_repeated_or_swapped_a_chunk_is_wrong():
    events = stream_events("00000007", "mock", 3, True)
    for changed in (
        events[:2] + events[3:],
        [*events[:3], events[2], *events[3:]],
        [*events[:2], events[3], events[2]],
    ):
        whole = b"".join(changed) if changed[-1] == events[-1] else b"".join([*changed, events[-1]])
        with pytest.raises(WrongAnswer, match="another text"):
            check_stream(whole, "00000007", 3)


def test_another_requests_stream_is_wrong():
    with pytest.raises(WrongAnswer, match="another text"):
        check_stream(stream("00000008"), "00000007", 3)


def test_a_stream_that_ends_in_an_error_or_without_a_reason_is_wrong():
    error = b'data: {"error":{"message":"the engine died"}}\n\ndata: [DONE]\n\n'
    with pytest.raises(WrongAnswer, match="the engine died"):
        check_stream(error, None, None)
    with pytest.raises(WrongAnswer, match="finish_reason"):
        check_stream(stream().replace(b'"stop"', b"null"), "00000007", 3)


def test_data_of_several_lines_is_one_event_and_comments_are_none():
    assert sse_data(b": note\n\nevent: x\ndata: one\ndata: two\n\ndata:three\n\n") == [b"one\ntwo", b"three"]


def test_the_nonce_is_found_in_a_request_and_a_probe_has_none():
    assert nonce_of(b'{"content":"nonce=00012345 Summarise"}') == "00012345"
    assert nonce_of(b'{"content":"ping"}') == "00000000"
