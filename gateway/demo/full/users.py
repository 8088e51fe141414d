"""End users of the alias, simulated: each asks as itself, and votes by the house style on what it reads.

Whoever was answered by the release on trial is shown the other release's answer beside it, and says which it prefers.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import openai

from gateway.demo.annotator import FeedbackBody, vote
from gateway.demo.answer import Answer
from gateway.demo.full.report import Traffic
from gateway.demo.service import DemoFailed, Service, explain
from gateway.demo.streams import at_work

USERS = 120
"""So many that a twentieth of them is a handful."""
CONCURRENCY = 8
QUESTIONS = 2
"""Whoever is shown two answers stays for another question."""
MAX_TOKENS = 256
"""Enough for most answers to end: a comparison with one that was cut off is no vote."""
PAUSE_AFTER_FAILURE_SECONDS = 0.5
FAILURES_KEPT = 5


@dataclass(frozen=True)
class Sides:
    """The two releases that may answer, and by which name the incumbent is asked for a comparison."""

    candidate_id: str
    incumbent_id: str
    compared_with: str | None
    """None where the engine does not hold both."""


@dataclass
class Tally:
    """What the users saw and said."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    preferences: int = 0
    preferred_candidate: int = 0
    up: int = 0
    down: int = 0
    moved_back: int = 0
    last: dict[str, str] = field(default_factory=dict)
    first_at: dict[str, float] = field(default_factory=dict)
    """When each release was first seen to answer, in seconds of the monotonic clock."""

    def answered(self, user: str, release_id: str, sides: Sides) -> None:
        """Note who answered whom."""
        before = self.last.get(user)
        self.moved_back += before == sides.candidate_id and release_id != before
        self.last[user] = release_id
        self.answers[release_id] += 1
        self.first_at.setdefault(release_id, time.monotonic())

    def compared(self, body: FeedbackBody, candidate: Answer) -> None:
        """Note which of two answers was preferred."""
        self.preferences += 1
        self.preferred_candidate += body["chosen"]["completion_id"] == candidate.completion_id

    def seen(self, sides: Sides) -> Traffic:
        """The figures so far."""
        known = {sides.candidate_id, sides.incumbent_id}
        return Traffic(
            answers=sum(self.answers.values()),
            by_release=dict(self.answers),
            failed=len(self.failures),
            failures=tuple(self.failures[:FAILURES_KEPT]),
            strangers=sum(count for release, count in self.answers.items() if release not in known),
            moved_back=self.moved_back,
            preferences=self.preferences,
            preferred_candidate=self.preferred_candidate,
            thumbs_up=self.up,
            thumbs_down=self.down,
        )


class EndUsers:
    """So many people; some of them ask at any time."""

    def __init__(self, service: Service, prompts: Sequence[str], sides: Sides) -> None:
        self._service = service
        self._prompts = prompts
        self._sides = sides
        self._turns = itertools.count()
        self._stop = asyncio.Event()
        self.tally = Tally()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """People ask while this is entered; when it is left, each reads its answer to the end."""
        async with at_work((self._keep_asking() for _ in range(CONCURRENCY)), self._stop):
            yield

    @property
    def seen(self) -> Traffic:
        """What they saw and said so far."""
        return self.tally.seen(self._sides)

    def seconds_since_first(self, release_id: str) -> float:
        """How long ago a release was first seen to answer; 0 if it never did."""
        now = time.monotonic()
        return now - self.tally.first_at.get(release_id, now)

    async def _keep_asking(self) -> None:
        while not self._stop.is_set():
            turn = next(self._turns)
            try:
                await self._visit(f"user-{turn % USERS:03}", turn)
            except (openai.OpenAIError, DemoFailed) as error:
                told = explain(error) if isinstance(error, openai.OpenAIError) else str(error)
                self.tally.failures.append(told)
                await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    async def _visit(self, user: str, turn: int) -> None:
        for question in range(QUESTIONS):
            prompt = self._prompts[(turn + question * USERS) % len(self._prompts)]
            if not await self._ask(user, prompt) or self._stop.is_set():
                return

    async def _ask(self, user: str, prompt: str) -> bool:
        """Ask, rate, and compare where there is something to compare; returns whether there was."""
        answer = (await self._service.ask(prompt, MAX_TOKENS, retried=False, user=user))[0]
        self.tally.answered(user, str(answer.release_id), self._sides)
        await self._rate(user, answer)
        if self._sides.compared_with is None or answer.release_id != self._sides.candidate_id:
            return False
        await self._compare(user, prompt, answer, self._sides.compared_with)
        return True

    async def _rate(self, user: str, answer: Answer) -> None:
        likes = answer.in_style
        self.tally.up, self.tally.down = self.tally.up + likes, self.tally.down + (not likes)
        target = {"completion_id": answer.completion_id, "index": answer.index}
        body = {"type": "rating", "target": target, "name": "thumbs", "value": likes, "rater": _rater(user)}
        await self._service.send_feedback(body)

    async def _compare(self, user: str, prompt: str, answer: Answer, other_name: str) -> None:
        try:
            other = (await self._service.ask(prompt, MAX_TOKENS, model=other_name, retried=False, user=user))[0]
        except openai.APIStatusError as error:
            if error.code == "release_not_loaded":
                return  # the candidate was promoted meanwhile: there is nothing left to compare with
            raise
        if (body := vote([answer, other])) is not None:
            await self._service.send_feedback(body | {"rater": _rater(user)})
            self.tally.compared(body, answer)


def _rater(user: str) -> dict[str, str]:
    return {"id": user, "kind": "end_user"}
