"""What an answer may look like, read from the openai SDK's own types and held to without any of the SDK's leniency.

The SDK takes whatever comes. Here a field it does not know, a required one that is missing, a value of another type and
a null that OpenAI's specification does not have are violations, each told with its place.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from openai.types import Completion, CompletionChoice, CompletionUsage, Model
from openai.types import completion_usage as usage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat import chat_completion as whole
from openai.types.chat import chat_completion_chunk as chunk
from openai.types.chat.chat_completion_message_function_tool_call import ChatCompletionMessageFunctionToolCall
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob, TopLogprob
from openai.types.responses import ResponseFunctionCallArgumentsDoneEvent
from openai.types.shared import ErrorObject
from pydantic import BaseModel

SCALARS: Mapping[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}


@dataclass(frozen=True)
class Nulls:
    """The nulls that OpenAI's specification has in an object; the SDK writes `Optional` for whatever may be absent."""

    required: frozenset[str] = frozenset()
    """Must be there, if only as null."""
    allowed: frozenset[str] = frozenset()
    """May be null or absent."""


def _nulls(required: str = "", allowed: str = "") -> Nulls:
    return Nulls(frozenset(required.split()), frozenset(allowed.split()))


SPECIFIED: Mapping[type[BaseModel], Nulls] = {
    ChatCompletion: _nulls(allowed="metadata service_tier"),
    whole.Choice: _nulls(required="logprobs"),
    whole.ChoiceLogprobs: _nulls(required="content refusal"),
    ChatCompletionMessage: _nulls(required="content refusal", allowed="audio"),
    ChatCompletionMessageFunctionToolCall: _nulls(),
    ChatCompletionTokenLogprob: _nulls(required="bytes"),
    TopLogprob: _nulls(required="bytes"),
    ChatCompletionChunk: _nulls(allowed="service_tier usage"),
    chunk.Choice: _nulls(required="finish_reason", allowed="logprobs"),
    chunk.ChoiceDelta: _nulls(allowed="content refusal"),
    chunk.ChoiceDeltaToolCall: _nulls(),
    chunk.ChoiceDeltaToolCallFunction: _nulls(),
    chunk.ChoiceLogprobs: _nulls(required="content refusal"),
    CompletionUsage: _nulls(),
    usage.CompletionTokensDetails: _nulls(),
    usage.PromptTokensDetails: _nulls(),
    Completion: _nulls(allowed="usage"),
    CompletionChoice: _nulls(required="logprobs", allowed="finish_reason"),
    Model: _nulls(),
    ErrorObject: _nulls(required="code param"),
}
"""Of an object that is not listed, whatever the SDK calls optional may be null."""
DISPUTED: Mapping[type[BaseModel], frozenset[str]] = {
    ChatCompletion: frozenset({"metadata"}),  # since the newest
    ResponseFunctionCallArgumentsDoneEvent: frozenset({"name"}),  # until the newest
}
"""Fields that one of the two majors of the SDK has and the other has not: they may be there or not."""


def violations(expected: Any, value: Any, place: str = "$") -> Iterator[str]:
    """Everything about a decoded JSON `value` that is not as the SDK type `expected` says."""
    origin = get_origin(expected)
    if origin is Annotated:
        yield from violations(get_args(expected)[0], value, place)
    elif expected in (Any, object):
        return
    elif origin is Literal:
        if value not in get_args(expected):
            yield f"{place}: {value!r} is none of {get_args(expected)}"
    elif origin in (Union, UnionType):
        yield from _of_union(get_args(expected), value, place)
    elif origin is list:
        yield from _of_list(get_args(expected)[0], value, place)
    elif origin is dict:
        yield from _of_dict(get_args(expected)[1], value, place)
    elif isinstance(expected, type) and issubclass(expected, BaseModel):
        yield from _of_object(expected, value, place)
    elif expected is NoneType:
        if value is not None:
            yield f"{place}: {value!r} is not null"
    elif not isinstance(value, SCALARS[expected]) or (isinstance(value, bool) and expected is not bool):
        yield f"{place}: {value!r} is no {expected.__name__}"


def check(expected: Any, value: Any) -> None:
    """Fail with all violations."""
    found = list(violations(expected, value))
    assert not found, "\n".join([*found, f"in {value}"])


def check_error(body: Any) -> None:
    """Fail unless a decoded body is OpenAI's error envelope and nothing else."""
    assert isinstance(body, dict), body
    assert set(body) == {"error"}, body
    check(ErrorObject, body["error"])
    assert body["error"]["message"]


def _of_union(members: Iterable[Any], value: Any, place: str) -> Iterator[str]:
    tried = [list(violations(member, value, place)) for member in members]
    if all(tried):
        # The member that fits best says what is wrong; the others would only say that they are not meant.
        yield from min(tried, key=len)


def _of_list(member: Any, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{place}: {value!r} is no list"
        return
    for index, item in enumerate(value):
        yield from violations(member, item, f"{place}[{index}]")


def _of_dict(member: Any, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no object"
        return
    for key, item in value.items():
        yield from violations(member, item, f"{place}.{key}")


def _of_object(expected: type[BaseModel], value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no object"
        return
    fields = {field.alias or name: field for name, field in expected.model_fields.items()}
    nulls = SPECIFIED.get(expected)
    disputed = DISPUTED.get(expected, frozenset())
    for name in value.keys() - fields.keys() - disputed:
        yield f"{place}.{name}: not a field of {expected.__name__}"
    for name, field in fields.items():
        if name not in value:
            if (field.is_required() and name not in disputed) or (nulls is not None and name in nulls.required):
                yield f"{place}.{name}: missing"
        elif value[name] is None and nulls is not None:
            if name not in nulls.required | nulls.allowed:
                yield f"{place}.{name}: null, which the specification does not have here"
        else:
            yield from violations(field.annotation, value[name], f"{place}.{name}")
