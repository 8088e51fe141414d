"""Clients that ask without pause, and what each answer was: whole, by whom, how late."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from openai import APIStatusError

from benchmarks.swap.site import ALIAS, Site


@dataclass
class Answer:
    """One streamed answer as a client saw it; times on the monotonic clock."""

    sent: float
    first: float | None = None
    """When its first chunk came."""
    ended: float = 0.0
    stall_seconds: float = 0.0
    """The longest wait between two of its chunks."""
    fingerprints: set[str] = field(default_factory=set)
    text: str = ""
    failure: str | None = None
    refused: bool = False
    """It failed by an answer with another status than 200, not by a broken connection or an error in the stream."""
    is_right: bool = False
    """Written by one release, which it names."""


@contextlib.asynccontextmanager
async def listening(site: Site, streams: int) -> AsyncIterator[list[Answer]]:
    """Keep so many streams open; yields the answers so far, which grow. Those begun are read to their end."""
    heard: list[Answer] = []
    stop = asyncio.Event()
    lanes = [asyncio.create_task(_lane(site, heard, number, stop)) for number in range(streams)]
    try:
        yield heard
    finally:
        stop.set()
        await asyncio.gather(*lanes)


async def _lane(site: Site, heard: list[Answer], lane: int, stop: asyncio.Event) -> None:
    for number in count(lane):
        if stop.is_set():
            return
        heard.append(await ask(site, site.prompts[number % len(site.prompts)]))


async def ask(site: Site, prompt: str) -> Answer:
    """One streamed answer, read to its end or its failure."""
    answer = Answer(time.monotonic())
    try:
        await _read(site, prompt, answer)
    except Exception as error:  # counted, and shown with the figures
        failure = f"{datetime.now(UTC):%H:%M:%S} {type(error).__name__}: {error} ({error.__cause__!r})"
        answer.failure = failure[:300]
        answer.refused = isinstance(error, APIStatusError)
    answer.ended = time.monotonic()
    return answer


async def _read(site: Site, prompt: str, answer: Answer) -> None:
    chunks = await site.stack.client.chat.completions.create(
        model=ALIAS, messages=[{"role": "user", "content": prompt}], stream=True, **site.fields
    )
    finish, last = None, 0.0
    async for chunk in chunks:
        now = time.monotonic()
        if answer.first is None:
            answer.first = last = now
        answer.stall_seconds = max(answer.stall_seconds, now - last)
        last = now
        answer.fingerprints.add(str(chunk.system_fingerprint))
        for choice in chunk.choices:
            answer.text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    if finish is None:
        answer.failure = "the stream ended without a finish_reason"
    answer.is_right = site.is_right(prompt, answer.fingerprints, answer.text)
