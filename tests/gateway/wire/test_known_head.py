"""A request is told by a head that came before only if a parser would find the very same in it."""

import pytest

from gateway.wire.known_head import HeadMemory, ReplyMemory, known_head

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nx-a: b\r\n\r\n"


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def test_only_the_length_may_differ() -> None:
    known = known_head(request(b"{}"))
    assert known is not None
    assert known.body_behind(request(b'{"a":1}')) == b'{"a":1}'
    assert known.body_behind(request(b"")) == b""
    assert known.body_behind(request(b"x" * 12345)) == b"x" * 12345


@pytest.mark.parametrize(
    "data",
    [
        request(b"{}")[:-1],  # not all of it yet
        request(b"{}") + b"G",  # another one behind it
        request(b"{}").replace(b"x-a: b", b"x-a: c"),
        request(b"{}").replace(b"Length: 2", b"Length: +2"),
        request(b"{}").replace(b"Length: 2", b"Length:  2"),
        request(b"{}").replace(b"Length: 2", b"Length: "),
        request(b"{}").replace(b"Length: 2", b"Length: 2\r\ncontent-length: 2"),
        request(b"{}").replace(b"POST", b"post"),
    ],
)
def test_anything_else_is_parsed(data: bytes) -> None:
    known = known_head(request(b"{}"))
    assert known is not None
    assert known.body_behind(data) is None


@pytest.mark.parametrize(
    "data",
    [
        request(b"{}", HEAD.replace(b"x-a: b", b"Transfer-Encoding: chunked")),
        request(b"{}", HEAD.replace(b"x-a: b", b"content-length: 2")),
        request(b"{}", HEAD.replace(b"x-a: b\r\n", b"x-a: b\n")),
        request(b"{}", HEAD.replace(b"x-a: b", b"x-a: \rb")),
        b"POST / HTTP/1.1\n\n" + request(b"{}"),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        request(b"{}") + request(b"{}"),
    ],
)
def test_an_ambiguous_head_is_not_remembered(data: bytes) -> None:
    assert known_head(data) is None


def test_a_block_that_was_passed_over_is_not_learnt_as_the_next_request() -> None:
    heads = HeadMemory()
    assert heads.body_behind(request(b"{}").replace(b"chat/completions", b"feedback")) is None
    heads.pass_over()
    heads.learn()
    assert heads.body_behind(request(b"{}").replace(b"chat/completions", b"feedback")) is None


def test_heads_that_always_differ_are_soon_left_alone() -> None:
    heads = HeadMemory()
    for number in range(4):
        data = request(b"{}").replace(b"x-a: b", b"x-a: %d" % number)
        assert heads.body_behind(data) is None
        heads.forget()
        heads.learn()
    assert heads.body_behind(data) is None


def test_replies_are_told_by_the_last_head_that_was_looked_at() -> None:
    replies = ReplyMemory()
    first, second = (b"HTTP/1.1 200 OK\r\ndate: %d\r\ncontent-length: 2\r\n\r\n{}" % second for second in (1, 2))
    replies.learn(first, now=10.0)
    assert (replies.body_behind(first), replies.body_behind(second)) == (b"{}", None)
    replies.learn(second, now=10.1)
    assert replies.body_behind(second) is None
    replies.learn(second, now=11.0)
    assert (replies.body_behind(first), replies.body_behind(second)) == (None, b"{}")


def test_a_refusal_is_never_taken_for_an_answer() -> None:
    replies = ReplyMemory()
    refusal = b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}"
    replies.learn(refusal, now=10.0)
    assert replies.body_behind(refusal) is None
