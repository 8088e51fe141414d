"""What the mock upstream says, and whether what came through a gateway is that: pure functions, no sockets.

The answer repeats the nonce of its request, so an answer that reached the wrong client is found.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

NONCE_DIGITS = 8
NONCE_MARK = b"nonce="
WORDS = (" river", " stone", " lamp", " paper", " cloud", " garden", " copper", " bread", " window", " salt")
PROMPT_TOKENS = 57


class WrongAnswer(Exception):
    """An answer is not the one its request asked for."""


@dataclass(frozen=True)
class StreamFound:
    """What a checked stream held."""

    chunks: int
    """Events that brought text."""
    has_usage: bool


def nonce_of(body: bytes) -> str:
    """The nonce in a request's body; zeros if it has none, as a gateway's own probes have."""
    at = body.find(NONCE_MARK)
    return body[at + len(NONCE_MARK) :][:NONCE_DIGITS].decode() if at >= 0 else "0" * NONCE_DIGITS


def whole_text(nonce: str) -> str:
    """The text of an answer that is not streamed: about 250 bytes."""
    return f"[{nonce}]" + "".join(WORDS) * 4


def chunk_text(nonce: str, number: int) -> str:
    """The text of one chunk."""
    return f"[{nonce}]" if number == 0 else WORDS[number % len(WORDS)]


def stream_text(nonce: str, chunks: int) -> str:
    """The text of a whole stream."""
    return "".join(chunk_text(nonce, number) for number in range(chunks))


def reply_body(nonce: str, model: str) -> bytes:
    """A `chat.completion`, about 600 bytes."""
    return (
        f'{{"id":"chatcmpl-{nonce}","object":"chat.completion","created":1795392000,"model":"{model}","choices":[{{'
        f'"index":0,"message":{{"role":"assistant","content":"{whole_text(nonce)}"}},"logprobs":null,'
        f'"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":41,'
        f'"total_tokens":{PROMPT_TOKENS + 41}}}}}'
    ).encode()


def stream_events(nonce: str, model: str, chunks: int, with_usage: bool) -> list[bytes]:
    """The SSE events of a stream, in the order and at the grain they are sent: role, text, then the end as one."""
    head = f'data: {{"id":"chatcmpl-{nonce}","object":"chat.completion.chunk","created":1795392000,"model":"{model}"'
    choice = head + ',"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
    events = [choice % ('{"role":"assistant","content":""}', "null")]
    events += [choice % (f'{{"content":"{chunk_text(nonce, number)}"}}', "null") for number in range(chunks)]
    usage = (
        f'{head},"choices":[],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{chunks},'
        f'"total_tokens":{PROMPT_TOKENS + chunks}}}}}\n\n'
    )
    events.append(choice % ("{}", '"stop"') + (usage if with_usage else "") + "data: [DONE]\n\n")
    return [event.encode() for event in events]


def check_reply(body: bytes, nonce: str | None) -> None:
    """Raises `WrongAnswer` unless the body is the answer; without a nonce, any well-formed completion will do."""
    content = _at(_decoded(body), "choices", 0, "message", "content")
    if nonce is None:
        if not isinstance(content, str):
            raise WrongAnswer(f"no text: {body[:100]!r}")
    elif content != whole_text(nonce):
        raise WrongAnswer(f"another request's or a changed text: {str(content)[:60]!r}, not [{nonce}]...")


def check_stream(body: bytes, nonce: str | None, chunks: int | None) -> StreamFound:
    """Raises `WrongAnswer` unless the body is the stream, to its `[DONE]`, text for text.

    Without a nonce any well-formed stream will do; without a number of chunks, any number.
    """
    data = sse_data(body)
    if not data or data[-1] != b"[DONE]":
        raise WrongAnswer(f"the stream does not end with [DONE] but with {body[-60:]!r}")
    decoded = [_decoded(event) for event in data[:-1]]
    if errors := [event for event in decoded if "error" in event]:
        raise WrongAnswer(f"an error in the stream: {str(errors[0])[:100]}")
    texts = [str(text) for event in decoded if event.get("choices") and (text := _delta(event).get("content"))]
    if nonce is not None and chunks is not None and "".join(texts) != stream_text(nonce, chunks):
        raise WrongAnswer(f"{len(texts)} chunks with another text: {''.join(texts)[:60]!r}, not [{nonce}]...")
    if not any(event.get("choices") and event["choices"][0].get("finish_reason") for event in decoded):
        raise WrongAnswer("no finish_reason")
    return StreamFound(len(texts), any(event.get("usage") for event in decoded))


def sse_data(body: bytes) -> list[bytes]:
    """The `data` of every event; comments and other fields are left out, as the SSE standard has it."""
    found = []
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise WrongAnswer(f"not JSON ({error}): {data[:100]!r}") from error
    if not isinstance(found, dict):
        raise WrongAnswer(f"not a JSON object: {data[:100]!r}")
    return found


def _delta(event: dict[str, Any]) -> dict[str, Any]:
    found = _at(event, "choices", 0, "delta")
    return found if isinstance(found, dict) else {}


def _at(value: Any, *path: str | int) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            raise WrongAnswer(f"no {'.'.join(map(str, path))} in {str(value)[:100]}") from error
    return value
