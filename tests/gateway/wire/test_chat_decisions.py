"""Every field that a client can send has a decision, and the decision is what happens."""

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import chat, shared_params
from openai.types.chat import (
    chat_completion_assistant_message_param,
    chat_completion_content_part_image_param,
    chat_completion_content_part_param,
    chat_completion_message_function_tool_call_param,
    chat_completion_named_tool_choice_param,
    completion_create_params,
)
from openai.types.shared_params import response_format_json_schema

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire import chat_fields, chat_messages
from gateway.wire.chat import ChatRequest, parse_chat_request
from gateway.wire.chat_decisions import (
    EXTENSION_FIELDS,
    FIELDS,
    FORWARDED,
    HANDLED,
    KINDS,
    MESSAGE_FIELDS,
    REFUSED,
    Decision,
)
from gateway.wire.chat_fields import EXTENSIONS, ChatBody, Parameters

EVERY_FIELD = {**FIELDS, **EXTENSION_FIELDS}
TOOL = {"type": "function", "function": {"name": "f"}}
TAKEN: dict[str, Any] = {
    "chat_template_kwargs": {"thinking": True},
    "frequency_penalty": 0.5,
    "logit_bias": {"1": 2.0},
    "logprobs": True,
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hi"}],
    "metadata": {"k": "v"},
    "min_p": 0.1,
    "model": "assistant",
    "n": 2,
    "parallel_tool_calls": True,
    "presence_penalty": 0.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "repetition_penalty": 1.1,
    "response_format": {"type": "json_object"},
    "safety_identifier": "s",
    "seed": 7,
    "stop": ["x"],
    "store": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "tool_choice": "auto",
    "tools": [TOOL],
    "top_k": 5,
    "top_logprobs": 2,
    "top_p": 0.5,
    "user": "u",
}
"""One good value for each field that is taken."""
NEEDED = {
    "top_logprobs": ("logprobs",),
    "stream_options": ("stream",),
    "tool_choice": ("tools",),
    "parallel_tool_calls": ("tools",),
}

MESSAGES: dict[str, Any] = {
    "system": chat.ChatCompletionSystemMessageParam,
    "developer": chat.ChatCompletionDeveloperMessageParam,
    "user": chat.ChatCompletionUserMessageParam,
    "assistant": chat.ChatCompletionAssistantMessageParam,
    "tool": chat.ChatCompletionToolMessageParam,
    "text": chat.ChatCompletionContentPartTextParam,
    "refusal": chat.ChatCompletionContentPartRefusalParam,
    "image_url": chat.ChatCompletionContentPartImageParam,
}
REFUSED_MESSAGES: dict[str, Any] = {
    "role:function": chat.ChatCompletionFunctionMessageParam,
    "content:input_audio": chat.ChatCompletionContentPartInputAudioParam,
    "content:file": chat_completion_content_part_param.File,
}
INNER: list[tuple[Any, Any]] = [
    (chat.ChatCompletionFunctionToolParam, chat_fields.Tool),
    (shared_params.FunctionDefinition, chat_fields.FunctionDefinition),
    (chat.ChatCompletionStreamOptionsParam, chat_fields.StreamOptions),
    (completion_create_params.PromptCacheOptions, chat_fields.CacheOptions),
    (chat_completion_named_tool_choice_param.ChatCompletionNamedToolChoiceParam, chat_fields.NamedChoice),
    (chat_completion_named_tool_choice_param.Function, chat_fields.ChosenFunction),
    (chat.ChatCompletionAllowedToolChoiceParam, chat_fields.AllowedChoice),
    (chat.ChatCompletionAllowedToolsParam, chat_fields.AllowedTools),
    (response_format_json_schema.ResponseFormatJSONSchema, chat_fields.SchemaFormat),
    (response_format_json_schema.JSONSchema, chat_fields.JsonSchema),
    (shared_params.ResponseFormatJSONObject, chat_fields.ObjectFormat),
    (shared_params.ResponseFormatText, chat_fields.TextFormat),
    (chat_completion_content_part_image_param.ImageURL, chat_messages.ImageUrl),
    (chat_completion_content_part_image_param.PromptCacheBreakpoint, chat_messages.CacheBreakpoint),
    (chat_completion_message_function_tool_call_param.ChatCompletionMessageFunctionToolCallParam,
     chat_messages.CalledTool),
    (chat_completion_message_function_tool_call_param.Function, chat_messages.CalledFunction),
]  # fmt: skip
"""The SDK's objects within a request, and ours."""


def keys(typed_dict: Any) -> set[str]:
    return set(typed_dict.__annotations__)


def members(union: Any) -> set[Any]:
    return set(union.__args__)


def ask(fields: dict[str, Any], surface: SurfaceSettings | None = None) -> ChatRequest:
    asked = {name: TAKEN[name] for name in ("model", "messages")} | fields
    return parse_chat_request(json.dumps(asked).encode(), surface or SurfaceSettings())


def with_needed(name: str) -> dict[str, Any]:
    return {other: TAKEN[other] for other in (*NEEDED.get(name, ()), name)}


def test_every_field_of_the_sdk_has_a_decision_and_no_other_has() -> None:
    asked = keys(completion_create_params.CompletionCreateParamsStreaming)
    asked |= keys(completion_create_params.CompletionCreateParamsNonStreaming)
    assert len(asked) > 30
    assert asked == set(FIELDS)
    assert set(EXTENSIONS) == set(EXTENSION_FIELDS)
    assert not asked & set(EXTENSIONS)


def test_every_role_and_part_of_the_sdk_has_a_decision() -> None:
    messages = members(chat.ChatCompletionMessageParam)
    parts = members(chat.ChatCompletionContentPartParam)
    parts |= members(chat_completion_assistant_message_param.ContentArrayOfContentPart)
    assert messages | parts == {*MESSAGES.values(), *REFUSED_MESSAGES.values()}
    assert set(REFUSED_MESSAGES) <= set(KINDS)


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_field_of_the_sdks_messages_has_a_decision(kind: str) -> None:
    ours = {name.partition(".")[2] for name in MESSAGE_FIELDS if name.startswith(f"{kind}.")}
    beyond = {"parsed", "reasoning", "reasoning_content", "annotations"} if kind == "assistant" else set()
    assert keys(MESSAGES[kind]) - {"role", "type"} == ours - beyond


@pytest.mark.parametrize(("theirs", "ours"), INNER, ids=lambda item: item.__name__)
def test_every_field_of_the_sdks_inner_objects_is_taken(theirs: Any, ours: Any) -> None:
    tag = ours.__struct_config__.tag_field
    assert keys(theirs) <= {*ours.__struct_fields__, *([tag] if tag else [])}


def test_the_types_take_what_the_table_says() -> None:
    taken = {name for name, decision in EVERY_FIELD.items() if decision.kind != REFUSED}
    assert taken == set(ChatBody.__struct_fields__) == set(TAKEN)
    forwarded = {name for name, decision in EVERY_FIELD.items() if decision.kind == FORWARDED}
    assert forwarded == {*Parameters.__struct_fields__, "messages"}


@pytest.mark.parametrize(("name", "decision"), [item for item in EVERY_FIELD.items() if item[1].kind != REFUSED])
def test_a_field_that_is_taken_goes_where_the_table_says(name: str, decision: Decision) -> None:
    told = ask(with_needed(name)).parameters()
    if name == "messages":
        assert json.loads(ask({}).engine_messages_json) == TAKEN[name]
    elif decision.kind == FORWARDED:
        assert told[name] == TAKEN[name]
    else:
        assert decision.kind == HANDLED
        assert name not in told


@pytest.mark.parametrize(("name", "decision"), [item for item in FIELDS.items() if item[1].kind == REFUSED])
def test_a_refused_field_says_what_to_do_and_its_neutral_values_are_taken(name: str, decision: Decision) -> None:
    for value in ({"surprise": 1}, True, 1, "x", [1]):
        with pytest.raises(InvalidRequest) as refused:
            ask({name: value})
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)
        assert decision.note in refused.value.message
    for neutral in (None, *decision.neutral):
        assert ask({name: neutral}).parameters_json == b"{}"


def test_deprecated_functions_are_sent_to_tools() -> None:
    for name, words in (("functions", "`tools`"), ("function_call", "`tool_choice`")):
        with pytest.raises(InvalidRequest, match=words):
            ask({name: [{"name": "f"}] if name == "functions" else {"name": "f"}})


def vllm_request_fields() -> set[str]:
    """The fields of the installed vLLM's chat request, read from its source: importing it would load torch."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "entrypoints/openai/chat_completion/protocol.py"
    classes = [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)]
    request = next(node for node in classes if node.name == "ChatCompletionRequest")
    named = [node.target for node in request.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in named if isinstance(target, ast.Name) and not target.id.startswith("_")}


DANGEROUS = {
    "request_id", "chat_template", "mm_processor_kwargs", "media_io_kwargs", "add_generation_prompt",
    "continue_final_message", "add_special_tokens", "structured_outputs", "priority", "kv_transfer_params",
    "vllm_xargs", "cache_salt", "echo", "documents", "stop_token_ids", "ignore_eos", "min_tokens", "prompt_logprobs",
    "allowed_token_ids", "bad_words", "return_token_ids", "use_beam_search", "truncate_prompt_tokens",
}  # fmt: skip
OLDER = {
    "prompt_embeds", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend",
    "guided_whitespace_pattern", "best_of", "logits_processors", "prompt", "prompt_token_ids", "lora_path",
    "skip_special_tokens", "extra_body", "session_id", "model_path", "adapter_name", "do_preprocess",
}  # fmt: skip
"""Fields that other versions of engines take."""


def test_no_field_of_vllms_reaches_it_but_those_listed() -> None:
    theirs = vllm_request_fields()
    assert theirs > DANGEROUS
    for name in sorted((theirs | OLDER) - set(ChatBody.__struct_fields__)):
        for value in (1, True, "x", {"a": 1}, ["x"]):
            with pytest.raises(InvalidRequest) as refused:
                ask({name: value})
            assert refused.value.param == name, name
    assert (theirs | OLDER) & set(ChatBody.__struct_fields__) == theirs & set(ChatBody.__struct_fields__)


@pytest.mark.parametrize(
    ("place", "extra"),
    [
        ("message", {"chat_template": "x"}),
        ("part", {"uuid": "x"}),
        ("tool", {"defer_loading": True}),
        ("function", {"defer_loading": True}),
        ("format", {"structures": []}),
    ],
)
def test_nothing_unknown_hides_within_a_field(place: str, extra: dict[str, Any]) -> None:
    part = {"type": "text", "text": "x"} | (extra if place == "part" else {})
    message = {"role": "user", "content": [part]} | (extra if place == "message" else {})
    function = {"name": "f"} | (extra if place == "function" else {})
    tool = {"type": "function", "function": function} | (extra if place == "tool" else {})
    asked = {"type": "json_object"} | (extra if place == "format" else {})
    with pytest.raises(InvalidRequest) as refused:
        ask({"messages": [message], "tools": [tool], "response_format": asked})
    assert refused.value.code == "unknown_parameter"
    assert str(refused.value.param).endswith(next(iter(extra)))
