"""What one chat makes of an engine's dialect: the bytes that ask it, and what takes its answer in. Pure."""

from gateway.engines.dialects import Dialect
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Signature, StreamedAnswer, WholeAnswer

CHAT_PATH = b"/v1/chat/completions"
STREAMED = b',"stream":true,"stream_options":{"include_usage":true}}'
AFFINITY_BYTES = 512
"""Requests whose messages begin with the same bytes go to the same replica, whose prefix cache knows them."""
STICKY_CHARACTERS = 4096


def routing_keys(request: ChatRequest, project_id: str, key_id: str) -> tuple[bytes, bytes]:
    """What a canary's share is drawn by, and what is drawn to the same replica."""
    if request.end_user is not None:
        sticky = f"{project_id}\0{request.end_user}"
    else:
        sticky = f"{key_id}\0{request.first_user_text()[:STICKY_CHARACTERS]}"
    cache_key = request.prompt_cache_key
    return sticky.encode(), cache_key.encode() if cache_key else request.engine_messages_json[:AFFINITY_BYTES]


def engine_request(
    request: ChatRequest, dialect: Dialect, parameters: bytes, engine_model: str, head: bytes, traceparent: str | None
) -> bytes:
    """A whole HTTP request; `head` is its head up to the length, `parameters` are in the engine's dialect."""
    body = b'{"model":"%b","messages":%b%b%b' % (
        engine_model.encode(),
        dialect.messages(request.engine_messages_json),
        b"" if parameters == b"{}" else b"," + parameters[1:-1],
        STREAMED if request.stream else b"}",
    )
    trace = b"" if traceparent is None else b"traceparent: %b\r\n" % traceparent.encode()
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, trace, len(body), body)


def answer_to(request: ChatRequest, signature: Signature, reasoning: bool) -> StreamedAnswer | WholeAnswer:
    """What takes the engine's answer in; `reasoning`: the client may see what the model thought."""
    if not request.stream:
        return WholeAnswer(signature, request.choices, reasoning=reasoning)
    return StreamedAnswer(
        signature,
        request.choices,
        usage=request.wants_usage,
        reasoning=reasoning,
        patient=request.asks_grammar or b'"logit_bias"' in request.parameters_json,
    )
