"""A logged completion as a vote sees it: what was asked, what each choice said, and how it ended. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Side
from gateway.contracts.prompt import first_difference, prompt_hash
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import ChoiceRef
from gateway.settings import FeedbackSettings, IgnoredText
from gateway.storage.feedback_tables import Completion
from gateway.storage.first_words import Answered

if TYPE_CHECKING:
    import regex

NOTHING_IGNORED = FeedbackSettings()
PATTERN_SECONDS = 0.05
"""A pattern may take this long on a message."""


class PromptMismatch(InvalidRequest):
    """Two completions that answer different prompts cannot be compared."""

    code = "prompt_mismatch"


@dataclass(frozen=True)
class Prompt:
    """What a completion answers."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    response_format: dict[str, Any] | None
    hash: str
    compared: tuple[Message, ...]
    """The messages without what is ignored; the hash is over these."""
    is_task: bool = False
    """A chore of the client, such as a title for the chat: nobody rates it."""


@dataclass(frozen=True)
class LoggedChoice:
    """One choice that a model wrote, and how it ended."""

    side: Side
    finish_reason: str | None
    status: str
    """Of its completion: finished, failed or aborted."""
    alias: str
    prompt: Prompt


def prompt_of(completion: Completion | Answered, settings: FeedbackSettings = NOTHING_IGNORED) -> Prompt:
    """The prompt of a completion, hashed anew from what was logged."""
    messages = tuple(Message.model_validate(message) for message in completion.messages)
    tools = tuple(completion.parameters.get("tools") or ())
    response_format = completion.parameters.get("response_format")
    compared = without_ignored(messages, settings.ignore)
    is_task = is_task_call(messages, completion.call_metadata, settings.task_prompts)
    return Prompt(messages, tools, response_format, prompt_hash(compared, tools, response_format), compared, is_task)


def is_task_call(messages: Sequence[Message], metadata: dict[str, Any], task_prompts: Sequence[str]) -> bool:
    """Whether the client says so (metadata `task`, but for `user_response`), or asks as chat clients ask for titles."""
    if metadata.get("task", "") not in ("", "false", "user_response") or metadata.get("type") == "task":
        return True
    last = next((message.text for message in reversed(messages) if message.role == "user"), "")
    return last.startswith(tuple(task_prompts))


def without_ignored(messages: tuple[Message, ...], ignore: Sequence[IgnoredText]) -> tuple[Message, ...]:
    """The messages without every match of the patterns that go with their role."""
    if not ignore:
        return messages
    return tuple(_without(message, ignore) for message in messages)


def _without(message: Message, ignore: Sequence[IgnoredText]) -> Message:
    content = message.content
    for one in ignore:
        if one.role not in (None, message.role):
            continue
        pattern = _compiled(one.pattern)
        if isinstance(content, str):
            content = _left_of(content, pattern)
        elif content is not None:
            content = tuple(
                part | {"text": _left_of(str(part["text"]), pattern)} if part.get("type") == "text" else part
                for part in content
            )
    return message.model_copy(update={"content": content})


def _left_of(text: str, pattern: "regex.Pattern[str]") -> str:
    try:
        return str(pattern.sub("", text, timeout=PATTERN_SECONDS))
    except TimeoutError as error:
        raise InvalidRequest(
            f"The pattern {pattern.pattern!r} of `feedback.ignore` took too long on this prompt; make it simpler.",
            code="pattern_too_slow",
        ) from error


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> "regex.Pattern[str]":
    import regex  # loaded by those alone who ignore some text

    return regex.compile(pattern, regex.DOTALL)


def logged_choice(completion: Completion | Answered, prompt: Prompt, ref: ChoiceRef) -> LoggedChoice:
    """The choice that `ref` points at. Raises `InvalidRequest` if the completion has no such choice."""
    choice = next((choice for choice in completion.choices if choice["index"] == ref.index), None)
    if choice is None:
        raise InvalidRequest(
            f"The completion {ref.completion_id} has {len(completion.choices)} choice(s); "
            f"there is none with index {ref.index}.",
            param="index",
            code="unknown_choice",
        )
    side = Side(
        message=Message.model_validate(choice["message"]),
        origin="model",
        completion_id=completion.id,
        index=ref.index,
        release_id=completion.release_id,
    )
    return LoggedChoice(side, choice.get("finish_reason"), completion.status, completion.alias, prompt)


def require_one_prompt(choices: Sequence[LoggedChoice]) -> None:
    """Raise `PromptMismatch`, naming the first difference, unless all choices answer the same prompt."""
    first = choices[0]
    for other in choices[1:]:
        if other.prompt.hash == first.prompt.hash:
            continue
        difference = first_difference(first.prompt.compared, other.prompt.compared)
        raise PromptMismatch(
            f"{first.side.completion_id} and {other.side.completion_id} answer different prompts; first difference: "
            f"{difference or 'their tools or response_format'}.",
            param="completion_id",
        )
