"""Clients that keep streaming while the weights are swapped under them, and write down what they saw."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

from gateway.demo.report import Streams
from gateway.demo.service import DemoFailed, Service, explain

FAILURES_KEPT = 5
PAUSE_AFTER_FAILURE_SECONDS = 0.2


@dataclass
class StreamedAnswer:
    """What one streamed answer looked like from outside."""

    written_by: set[tuple[str, str | None]] = field(default_factory=set)
    """Every `model` and `system_fingerprint` its chunks named."""
    finish_reason: str | None = None
    wait_seconds: float = 0.0
    stall_seconds: float = 0.0
    failure: str | None = None

    def is_mixed(self, releases: set[str]) -> bool:
        """Whether it names more than one release, or one it should not."""
        return len(self.written_by) > 1 or any(release not in releases for _, release in self.written_by)


@asynccontextmanager
async def at_work(clients: Iterable[Coroutine[Any, Any, None]], stop: asyncio.Event) -> AsyncIterator[None]:
    """Clients work while this is entered. When it is left, `stop` is set, and each ends what it is at."""
    tasks = [asyncio.create_task(client) for client in clients]
    try:
        yield
        stop.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class StreamLoad:
    """So many clients, each asking again as soon as it was answered, until told to stop."""

    def __init__(self, service: Service, prompts: Sequence[str], streams: int, max_tokens: int) -> None:
        self._service = service
        self._prompts = prompts
        self._streams = streams
        self._max_tokens = max_tokens
        self._stop = asyncio.Event()
        self._begun = [asyncio.Event() for _ in range(streams)]
        self._answers: list[StreamedAnswer] = []

    @asynccontextmanager
    async def running(self, start_timeout_seconds: float) -> AsyncIterator[None]:
        """Streams are open when this is entered. When it is left, each finishes its answer and asks one more."""
        async with at_work((self._keep_asking(number) for number in range(self._streams)), self._stop):
            await self._all_begun(start_timeout_seconds)
            yield

    async def _all_begun(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.gather(*(begun.wait() for begun in self._begun))
        except TimeoutError as error:
            raise DemoFailed(f"no {self._streams} streams were open within {timeout_seconds:g} s") from error

    async def _keep_asking(self, number: int) -> None:
        last = False
        turn = number
        while not last:
            last = self._stop.is_set()
            answer = await self._stream(self._prompts[turn % len(self._prompts)], self._begun[number])
            self._answers.append(answer)
            turn += self._streams
            if answer.failure:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    async def _stream(self, prompt: str, begun: asyncio.Event) -> StreamedAnswer:
        answer = StreamedAnswer()
        try:
            await self._read(prompt, answer, begun.set)
            if answer.finish_reason is None:
                answer.failure = "the stream ended without a finish_reason"
        except openai.OpenAIError as error:
            answer.failure = explain(error)
        except Exception as error:  # a connection lost in mid-stream reaches us as an error of the SDK's HTTP client
            answer.failure = f"{type(error).__name__}: {error}"
        finally:
            begun.set()
        return answer

    async def _read(self, prompt: str, answer: StreamedAnswer, begin: Callable[[], None]) -> None:
        asked = heard = time.monotonic()
        chunks = await self._service.unretried.chat.completions.create(
            model=self._service.alias,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=self._max_tokens,
            temperature=0.7,
            stream=True,
        )
        async for chunk in chunks:
            now = time.monotonic()
            if is_first := not answer.written_by:
                answer.wait_seconds = now - asked
            answer.stall_seconds = max(answer.stall_seconds, 0.0 if is_first else now - heard)
            heard = now
            begin()
            answer.written_by.add((chunk.model, chunk.system_fingerprint))
            for choice in chunk.choices:
                answer.finish_reason = choice.finish_reason or answer.finish_reason

    def seen(self, releases: set[str]) -> Streams:
        """All answers so far, counted; `releases` are those that may have written them."""
        whole = [answer for answer in self._answers if not answer.failure]
        failures = [answer.failure for answer in self._answers if answer.failure]
        single = [answer for answer in whole if not answer.is_mixed(releases)]
        return Streams(
            streams=self._streams,
            answers=len(self._answers),
            failed=len(failures),
            mixed=len(whole) - len(single),
            by_release=dict(Counter(str(release) for answer in single for _, release in answer.written_by)),
            max_stall_seconds=max((answer.stall_seconds for answer in self._answers), default=0.0),
            max_wait_seconds=max((answer.wait_seconds for answer in self._answers), default=0.0),
            failures=tuple(failures[:FAILURES_KEPT]),
        )
