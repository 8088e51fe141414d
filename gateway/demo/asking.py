"""Asking many prompts, and teaching by judging the answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from gateway.demo.annotator import FeedbackBody, annotate
from gateway.demo.answer import Answer
from gateway.demo.report import Teaching
from gateway.demo.service import Advance, Service

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ROUNDS = 3
"""How often a teaching prompt is asked at most; more near-duplicates than this are left out of a dataset."""
VOTE_EVERY = 6
"""Each sixth prompt is asked for two choices."""
VOTE_MAX_TOKENS = 224
"""Of a choice that is cut off the service makes no pair, so these may take longer."""


async def ask_greedily(
    service: Service, prompts: Sequence[str], in_sequence: int, concurrency: int, max_tokens: int, advance: Advance
) -> list[Answer]:
    """One greedy answer a prompt, in their order.

    The first `in_sequence` are asked one at a time: the other requests in a batch can move a float, and with it a
    greedy answer, and these must come out the same whenever they are asked.
    """

    async def ask(prompt: str) -> Answer:
        answer = (await service.ask(prompt, max_tokens, temperature=0.0))[0]
        advance(1)
        return answer

    first = [await ask(prompt) for prompt in prompts[:in_sequence]]
    return first + await _gather(ask, prompts[in_sequence:], concurrency)


async def teach(
    service: Service,
    prompts: Sequence[str],
    pairs: int,
    concurrency: int,
    max_tokens: int,
    advance: Advance,
    vote_max_tokens: int = VOTE_MAX_TOKENS,
) -> Teaching:
    """Ask, let the annotator judge, and send what it says, until the service made so many pairs of it."""
    lesson = _Lesson(service, pairs, (max_tokens, vote_max_tokens), advance)
    questions = list(enumerate(list(prompts) * MAX_ROUNDS))
    await _gather(lesson.take, questions, concurrency)
    return lesson.taught


class _Lesson:
    """Counts what was taught, and stops asking when it is enough."""

    def __init__(self, service: Service, pairs: int, max_tokens: tuple[int, int], advance: Advance) -> None:
        self._service = service
        self._wanted = pairs
        self._max_tokens = max_tokens  # of one choice, and of each of two
        self._advance = advance
        self.taught = Teaching(completions=0, corrections=0, votes=0, pairs=0)

    async def take(self, question: tuple[int, str]) -> None:
        """One prompt, unless enough pairs were made."""
        if self.taught.pairs >= self._wanted:
            return
        number, prompt = question
        choices = 2 if number % VOTE_EVERY == 0 else 1
        # A seed a question: the same lesson each time, and another answer in the next round.
        sampling: dict[str, Any] = {"temperature": 1.0, "n": choices, "seed": number}
        self._count(completions=1)
        max_tokens = self._max_tokens[choices - 1]
        body = annotate(await self._service.ask(prompt, max_tokens, **sampling))
        if body is not None:
            await self._send(body)

    async def _send(self, body: FeedbackBody) -> None:
        reply = await self._service.send_feedback(body)
        made = sum(map(_counts, reply.get("pairs") or ()))
        self._advance(min(made, max(0, self._wanted - self.taught.pairs)))
        self._count(**{"corrections" if body["type"] == "correction" else "votes": 1}, pairs=made)

    def _count(self, **more: int) -> None:
        grown = {name: getattr(self.taught, name) + count for name, count in more.items()}
        self.taught = self.taught.model_copy(update=grown)


def _counts(pair: dict[str, Any]) -> bool:
    """Whether a pair will be used: to train on, or on the holdout side to measure with."""
    return pair.get("state") == "eligible" or pair.get("reason") == "holdout"


async def _gather(act: Callable[[Item], Awaitable[Result]], items: Sequence[Item], concurrency: int) -> list[Result]:
    """`act` on each item, so many at a time; the results in the order of the items."""
    gate = asyncio.Semaphore(concurrency)

    async def act_in_turn(item: Item) -> Result:
        async with gate:
            return await act(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(act_in_turn(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
