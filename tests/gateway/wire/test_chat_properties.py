"""Whatever the body: a request or a refusal, never another error, and nothing reaches an engine that is not listed."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat import ChatRequest, parse_chat_request
from gateway.wire.chat_decisions import EXTENSION_FIELDS, FIELDS, FORWARDED, MESSAGE_FIELDS

SURFACES = [SurfaceSettings(), SurfaceSettings(extensions="strict", fetch_image_urls=True)]
ALLOWED = {name for name, decision in {**FIELDS, **EXTENSION_FIELDS}.items() if decision.kind == FORWARDED} - {
    "messages"
}
ALLOWED_IN_MESSAGES = {
    role: {name.partition(".")[2] for name, decision in MESSAGE_FIELDS.items() if name.startswith(f"{role}.")
           and decision.kind == FORWARDED} | {"role"}
    for role in ("system", "developer", "user", "assistant", "tool")
}  # fmt: skip
CODES = {
    "invalid_json", "invalid_type", "invalid_value", "missing_required_parameter", "unknown_parameter",
    "unsupported_parameter",
}  # fmt: skip
PARTS = {"text": {"type", "text"}, "image_url": {"type", "image_url"}}

words = st.sampled_from(
    [
        "", "text", "user", "assistant", "tool", "system", "developer", "function", "auto", "none", "required", "low",
        "json_schema", "json_object", "image_url", "refusal", "data:image/png;base64,AA", "https://example.org/x.png",
        "{}", "#", "#/$defs/a", "\0", "x" * 70,
    ]
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | words | st.text(max_size=8)
names = st.sampled_from(
    [
        *FIELDS, *EXTENSION_FIELDS, *(name.partition(".")[2] for name in MESSAGE_FIELDS), "role", "type", "function",
        "name", "arguments", "id", "url", "detail", "parameters", "json_schema", "schema", "$ref", "$defs", "anyOf",
        "properties", "include_usage", "thinking", "1", "request_id", "chat_template", "parsed_arguments", "strict",
    ]
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=5), inner, max_size=5),
    max_leaves=15,
)


def often(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what fits, so that much is accepted; now and then anything."""
    return st.integers(0, 30).flatmap(lambda dice: anything if dice == 0 else good)


texts = often(words)
maybe_texts = st.none() | texts
calls = st.fixed_dictionaries(
    {"id": texts, "function": st.fixed_dictionaries({"name": texts, "arguments": texts})},
    optional={"type": often(st.just("function")), "index": st.none() | st.integers(0, 3), "extra": st.none()},
)
text_parts = st.fixed_dictionaries(
    {"type": st.just("text"), "text": texts}, optional={"prompt_cache_breakpoint": often(st.none())}
)
refusal_parts = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts})
images = st.fixed_dictionaries(
    {"url": often(st.just("data:image/png;base64,AA"))}, optional={"detail": often(st.sampled_from(["low", None]))}
)
image_parts = st.fixed_dictionaries({"type": st.just("image_url"), "image_url": images})
text_contents = texts | st.lists(text_parts, min_size=1, max_size=3)


def said_by(role: str, content: st.SearchStrategy[Any], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A message of a role, with `content` and what else it may have."""
    return st.fixed_dictionaries({"role": st.just(role), "content": content}, optional=optional)


messages = st.one_of(
    said_by("system", text_contents, name=maybe_texts),
    said_by("developer", text_contents, unknown=st.none()),
    said_by("user", texts | st.lists(text_parts | image_parts, min_size=1, max_size=3), name=maybe_texts),
    said_by("tool", text_contents).map(lambda message: message | {"tool_call_id": "c"}),
    said_by(
        "assistant",
        st.none() | texts | st.lists(text_parts | refusal_parts, min_size=1, max_size=3),
        tool_calls=st.none() | st.lists(calls, max_size=2),
        reasoning=maybe_texts,
        reasoning_content=maybe_texts,
        refusal=maybe_texts,
        annotations=anything,
        parsed=anything,
        audio=often(st.none()),
        unknown=often(st.none()),
    ),
)
schemas = st.dictionaries(names, anything, max_size=3)
functions = st.fixed_dictionaries({"name": st.just("f")}, optional={"parameters": schemas, "strict": st.booleans()})
tools = st.fixed_dictionaries({"type": st.just("function"), "function": functions})
formats = st.sampled_from([{"type": "text"}, {"type": "json_object"}]) | st.fixed_dictionaries(
    {"type": st.just("json_schema"), "json_schema": st.fixed_dictionaries({"name": st.just("s"), "schema": schemas})}
)
requests = st.builds(
    lambda request, more: request | more,
    st.fixed_dictionaries(
        {"model": st.just("m"), "messages": st.lists(often(messages), min_size=1, max_size=4)},
        optional={
            "tools": st.none() | st.lists(tools, max_size=2),
            "tool_choice": often(st.sampled_from(["auto", "none", {"type": "function", "function": {"name": "f"}}])),
            "response_format": often(formats),
            "temperature": often(st.floats(0, 2)),
            "n": often(st.integers(1, 16)),
            "seed": often(st.integers(-(2**63), 2**63 - 1)),
            "stop": often(st.none() | st.just("x") | st.lists(st.just("y"), max_size=3)),
            "logit_bias": often(st.dictionaries(st.integers(0, 9).map(str), st.floats(-100, 100), max_size=3)),
            "metadata": often(st.dictionaries(words.filter(lambda key: len(key) < 65), words, max_size=3)),
            "stream": often(st.booleans()),
            "user": maybe_texts,
            "service_tier": often(st.sampled_from(["auto", None])),
            "max_tokens": often(st.integers(1, 9)),
            "chat_template_kwargs": often(st.dictionaries(st.just("thinking"), st.booleans())),
        },
    ),
    st.dictionaries(names, anything, max_size=1) | st.just({}) | st.just({}),
)


def refusal_fits(error: InvalidRequest) -> bool:
    """Whether an error says what a client must know."""
    return bool(error.message) and error.code in CODES and (error.code == "invalid_json" or error.param is not None)


def read(body: bytes) -> list[ChatRequest]:
    """What every kind of surface makes of a body; refusals are left out."""
    read_by = []
    for surface in SURFACES:
        try:
            read_by.append(parse_chat_request(body, surface))
            fits = True
        except InvalidRequest as error:
            fits = refusal_fits(error)
        assert fits
    return read_by


def check(request: ChatRequest) -> None:
    parameters = json.loads(request.parameters_json)
    assert set(parameters) <= ALLOWED
    assert None not in parameters.values()
    told = json.loads(request.engine_messages_json)
    for message in told:
        assert set(message) <= ALLOWED_IN_MESSAGES[message["role"]]
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            assert set(part) == PARTS[part["type"]]
        for call in message.get("tool_calls", ()):
            assert set(call) == {"id", "type", "function"}
            assert set(call["function"]) == {"name", "arguments"}
    stored = [message.model_dump(mode="json", exclude_none=True) for message in request.stored_messages()]
    assert stored == json.loads(request.stored_messages_json)
    assert [{**message, "reasoning": None} for message in stored] == [
        {**message, "reasoning": None} for message in told
    ]
    assert isinstance(request.first_user_text(), str)
    assert isinstance(json.loads(request.metadata_json), dict)
    assert 1 <= request.choices <= 16


@settings(max_examples=300, deadline=None)
@given(anything)
@example(None)
@example({"model": 1, "messages": {}})
def test_any_json_is_a_request_or_a_refusal(body: Any) -> None:
    for request in read(json.dumps(body).encode()):
        check(request)


@settings(max_examples=500, deadline=None)
@given(requests)
@example({"model": "m", "messages": [{"role": "user", "content": "hi"}], "top_k": 1, "stream": True})
def test_an_accepted_request_tells_an_engine_listed_fields_alone(body: dict[str, Any]) -> None:
    for request in read(json.dumps(body).encode()):
        check(request)
        again = {"model": "m", "messages": json.loads(request.engine_messages_json)} | request.parameters()
        surface = SURFACES[0] if set(again) & set(EXTENSION_FIELDS) else SURFACES[1]
        repeated = parse_chat_request(json.dumps(again).encode(), surface)
        assert repeated.engine_messages_json == request.engine_messages_json
        assert repeated.parameters() == request.parameters()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"model":"\xff"}')
@example(b'{"model":"a","messages":[{"role":"user","content":"\\udc00"}]}')
def test_any_bytes_are_a_request_or_a_refusal(body: bytes) -> None:
    for request in read(body):
        check(request)


@settings(max_examples=300, deadline=None)
@given(requests, st.data())
def test_a_damaged_request_is_a_request_or_a_refusal(body: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(json.dumps(body).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for request in read(bytes(raw)):
        check(request)
