"""One chat request from dispatch to record: shared by the whole and the streamed answer.

An exchange is tried again on another replica only as long as nothing of an answer has been sent.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.contracts.prompt import prompt_hash
from gateway.engines.openai_client import UpstreamUnreachable
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Answer, Signature

MAX_ATTEMPTS = 5


class Exchange:
    """One request, its target, its answer and its record."""

    def __init__(self, services: Services, caller: Caller, request: ChatRequest) -> None:
        self._services = services
        self._caller = caller
        self._request = request
        self._completion_id = ids.mint(ids.COMPLETION)
        self._began = time.time()
        self._first_chunk_seconds: float | None = None
        self._target: Target | None = None
        self._recorded = False
        self.answer: Answer | None = None

    async def complete(self) -> dict[str, Any]:
        """The client's whole reply, already recorded."""
        async with AsyncExitStack() as stack:
            reply: dict[str, Any] = await self._first_success(stack, self._complete_once)
        await self.record("finished")
        return reply

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The client's chunks; the record is committed before the last one is yielded."""
        async with AsyncExitStack() as stack:
            first, rest = await self._first_success(stack, self._open_stream)
            answer, wants_usage = self._answer(), self._request.wants_usage
            held: dict[str, Any] | None = answer.chunk(first, wants_usage)
            async for raw in rest:
                chunk = answer.chunk(raw, wants_usage)
                if chunk is not None:
                    if held is not None:
                        yield held
                    held = chunk
        await self.record("finished" if answer.finished else "failed")
        if held is not None:
            yield held
        if wants_usage:
            yield answer.usage_chunk()

    async def record(self, status: str) -> None:
        """Commit what was said, once; counted if that does not work in time."""
        if self._recorded or self._target is None or self.answer is None:
            return
        self._recorded = True
        self._services.metrics.completions.labels(self._target.release.alias, status).inc()
        if self._request.store is False:
            return
        if not await self._services.completions.record(self._row(status, self._target, self.answer)):
            self._services.metrics.unrecorded.inc()

    async def _first_success(self, stack: AsyncExitStack, attempt: Any) -> Any:
        for number in range(1, MAX_ATTEMPTS + 1):
            inner = AsyncExitStack()
            arrived = time.monotonic()
            target = await inner.enter_async_context(
                self._services.pool.dispatch(self._request.model, self._sticky_key())
            )
            self._services.metrics.newcomer_wait.observe(time.monotonic() - arrived)
            self._aim(target)
            try:
                result = await attempt(inner, target)
            except UpstreamUnreachable:
                self._services.pool.suspect(target.replica_id)
                await inner.aclose()
                if number == MAX_ATTEMPTS:
                    raise
            except BaseException:
                await inner.aclose()
                raise
            else:
                stack.push_async_exit(inner.__aexit__)
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _complete_once(self, _: AsyncExitStack, target: Target) -> dict[str, Any]:
        body = self._request.engine_body(target.engine_model)
        reply = await self._services.engines.complete(target.url, body)
        self._note_first_chunk()
        return self._answer().whole(reply)

    async def _open_stream(
        self, stack: AsyncExitStack, target: Target
    ) -> tuple[dict[str, Any], AsyncIterator[dict[str, Any]]]:
        chunks = self._services.engines.stream(target.url, self._request.engine_body(target.engine_model))
        stack.push_async_callback(chunks.aclose)  # type: ignore[attr-defined]
        first = await anext(chunks)
        self._note_first_chunk()
        return first, chunks

    def _aim(self, target: Target) -> None:
        self._target = target
        signature = Signature(self._completion_id, int(self._began), target.release.name, target.release.id)
        self.answer = Answer(signature)

    def _answer(self) -> Answer:
        if self.answer is None:
            raise AssertionError("an answer begins when a target is chosen")
        return self.answer

    def _note_first_chunk(self) -> None:
        self._first_chunk_seconds = time.time() - self._began
        self._services.metrics.first_chunk.observe(self._first_chunk_seconds)

    def _sticky_key(self) -> bytes:
        """Sticky by end user when given, else by key and first user message."""
        if self._request.end_user is not None:
            return f"{self._caller.project_id}\0{self._request.end_user}".encode()
        first = next((message.stored().text for message in self._request.messages if message.role == "user"), "")
        return f"{self._caller.key_id}\0{first}".encode()

    def _row(self, status: str, target: Target, answer: Answer) -> dict[str, Any]:
        messages, parameters = self._request.stored_messages(), self._request.parameters()
        end_user = self._request.end_user
        return {
            "id": self._completion_id,
            "project_id": self._caller.project_id,
            "key_id": self._caller.key_id,
            "alias": target.release.alias,
            "release_id": target.release.id,
            "status": status,
            "prompt_hash": prompt_hash(messages, parameters.get("tools"), parameters.get("response_format")),
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in messages],
            "parameters": parameters,
            "choices": answer.choices(),
            "usage": dict(answer.usage),
            "end_user_hash": self._services.secrets.keyed_hash("end_user", end_user) if end_user else None,
            "created_at": self._began,
            "first_chunk_seconds": self._first_chunk_seconds,
            "total_seconds": time.time() - self._began,
            "call_metadata": self._request.metadata or {},
        }


async def record_in_background(exchange: Exchange, status: str) -> None:
    """Record an exchange whose request was cancelled: the cancelled task itself must not be held up."""
    task = asyncio.create_task(exchange.record(status))
    _BACKGROUND.add(task)
    task.add_done_callback(_BACKGROUND.discard)


_BACKGROUND: set[asyncio.Task[None]] = set()
