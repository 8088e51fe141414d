"""A logged completion as a vote sees it: what was asked, what each choice said, and how it ended. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Side
from gateway.contracts.prompt import first_difference, prompt_hash
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import ChoiceRef
from gateway.storage.feedback import Answered
from gateway.storage.feedback_tables import Completion


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


@dataclass(frozen=True)
class LoggedChoice:
    """One choice that a model wrote, and how it ended."""

    side: Side
    finish_reason: str | None
    status: str
    """Of its completion: finished, failed or aborted."""
    alias: str
    prompt: Prompt


def prompt_of(completion: Completion | Answered) -> Prompt:
    """The prompt of a completion, hashed anew from what was logged."""
    messages = tuple(Message.model_validate(message) for message in completion.messages)
    tools = tuple(completion.parameters.get("tools") or ())
    response_format = completion.parameters.get("response_format")
    return Prompt(messages, tools, response_format, prompt_hash(messages, tools, response_format))


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
        difference = first_difference(first.prompt.messages, other.prompt.messages)
        raise PromptMismatch(
            f"{first.side.completion_id} and {other.side.completion_id} answer different prompts; first difference: "
            f"{difference or 'their tools or response_format'}.",
            param="completion_id",
        )
