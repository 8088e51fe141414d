"""What an annotator reads of a task: the prompt and two answers, and nothing that tells where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.items import Sides
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import ChoiceRef
from gateway.feedback.completions import logged_choice, prompt_of
from gateway.storage.feedback import find_completions
from gateway.storage.feedback_tables import PairRow


@dataclass(frozen=True)
class Texts:
    """A prompt and the first and the second answer to it."""

    prompt: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    first: Message
    second: Message


async def load_texts(session: AsyncSession, project_id: str, sides: Sides) -> Texts | None:
    """The texts of an item; None if one of them is gone (deleted, or erased with its user)."""
    if "pair_id" in sides[0]:
        pair = await session.get(PairRow, sides[0]["pair_id"])
        return None if pair is None or pair.project_id != project_id else _of_pair(pair, sides)
    refs = [ChoiceRef.model_validate(side) for side in sides]
    completions = await find_completions(session, project_id, [ref.completion_id for ref in refs])
    if any(ref.completion_id not in completions for ref in refs):
        return None
    prompt = prompt_of(completions[refs[0].completion_id])
    try:
        first, second = (logged_choice(completions[ref.completion_id], prompt, ref).side.message for ref in refs)
    except InvalidRequest:
        return None
    return Texts(prompt.messages, prompt.tools, first, second)


def _of_pair(row: PairRow, sides: Sides) -> Texts:
    pair = FeedbackPair.model_validate(row.body)
    answers = {"chosen": pair.chosen.message, "rejected": pair.rejected.message}
    return Texts(pair.prompt, pair.tools, answers[sides[0]["side"]], answers[sides[1]["side"]])


def shown_prompt(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A prompt as an annotator sees it."""
    return [_shown(message) for message in messages]


def shown_answer(message: Message) -> dict[str, Any]:
    """An answer as an annotator sees it: what it says and calls, not what the model thought."""
    answer: dict[str, Any] = {"text": message.text}
    return answer if not message.tool_calls else answer | {"tool_calls": list(message.tool_calls)}


def _shown(message: Message) -> dict[str, Any]:
    return message.model_dump(mode="json", exclude_none=True, exclude={"reasoning"})
