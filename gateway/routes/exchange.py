"""One chat request from dispatch to record: shared by the whole and the streamed answer.

An exchange is tried again on another replica only as long as nothing of an answer has been sent.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import structlog

from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.contracts.prompt import prompt_hash
from gateway.engines.failures import NothingGenerated
from gateway.errors import AlignwayError, UpstreamError
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Answer, Signature

log = structlog.get_logger(__name__)


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
        self._record: asyncio.Task[bool] | None = None
        self.answer: Answer | None = None

    async def complete(self) -> dict[str, Any]:
        """The client's whole reply, already recorded."""
        async with AsyncExitStack() as stack:
            reply: dict[str, Any] = await self._first_success(stack, self._complete_once)
        self._check_finished()
        self.begin_record("finished")
        await self.recorded()
        return reply

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The client's chunks; the record is committed before the last one is yielded."""
        async with AsyncExitStack() as stack:
            raw, rest = await self._first_success(stack, self._open_stream)
            answer, held = self._answer(), list[dict[str, Any]]()
            while raw is not None:
                with _nonsense_named():
                    chunk = answer.chunk(raw, self._request.wants_usage)
                # Only what may be the last chunk waits for the record; every other goes on at once.
                held += [chunk] if chunk is not None else []
                while held and not (answer.finished and len(held) == 1):
                    yield held.pop(0)
                raw = await anext(rest, None)
        self._check_finished()
        self.begin_record("finished")
        await self.recorded()
        for chunk in held:
            yield chunk
        if self._request.wants_usage:
            yield answer.usage_chunk()

    def begin_record(self, status: str) -> None:
        """Begin to commit what was said, once, whatever becomes of the request; counted if that does not work."""
        if self._record is not None or self._target is None or self.answer is None:
            return
        self._services.metrics.completions.labels(self._target.release.alias, status).inc()
        if self._request.store is False:
            return
        target, answer = self._target, self.answer
        self._record = self._services.completions.begin(lambda: self._row(status, target, answer))
        self._record.add_done_callback(self._count_if_lost)

    async def recorded(self) -> None:
        """Wait for the record that was begun; being cancelled here does not take it back."""
        if self._record is not None:
            await asyncio.shield(self._record)

    def _count_if_lost(self, record: asyncio.Task[bool]) -> None:
        if record.cancelled() or not record.result():
            self._services.metrics.unrecorded.inc()

    def _check_finished(self) -> None:
        if not self._answer().finished:
            raise UpstreamError("The engine ended the answer without a finish reason. It is incomplete; ask again.")

    async def _first_success(self, stack: AsyncExitStack, attempt: Any) -> Any:
        met: Counter[type[NothingGenerated]] = Counter()
        while True:
            inner = AsyncExitStack()
            arrived = time.monotonic()
            target = await inner.enter_async_context(
                self._services.pool.dispatch(self._request.model, self._sticky_key())
            )
            self._services.metrics.newcomer_wait.observe(time.monotonic() - arrived)
            self._aim(target)
            try:
                result = await attempt(inner, target)
            except NothingGenerated as error:
                self._services.pool.report(target, error)
                await inner.aclose()
                met[type(error)] += 1
                if met[type(error)] >= error.max_attempts:
                    raise
            except BaseException as error:
                if isinstance(error, AlignwayError):
                    self._services.pool.report(target, error)
                await inner.aclose()
                raise
            else:
                self._services.pool.report(target, None)
                stack.push_async_exit(inner.__aexit__)
                return result

    async def _complete_once(self, _: AsyncExitStack, target: Target) -> dict[str, Any]:
        body = self._request.engine_body(target.engine_model)
        reply = await self._services.engines.complete(target.url, body)
        self._note_first_chunk()
        with _nonsense_named():
            return self._answer().whole(reply)

    async def _open_stream(
        self, stack: AsyncExitStack, target: Target
    ) -> tuple[dict[str, Any], AsyncIterator[dict[str, Any]]]:
        chunks = self._services.engines.stream(target.url, self._request.engine_body(target.engine_model))
        stack.push_async_callback(chunks.aclose)  # type: ignore[attr-defined]
        first = await anext(chunks, None)
        if first is None:
            raise UpstreamError("The engine ended the answer before it began; see the engine's log.")
        self._note_first_chunk()
        return first, chunks

    def _aim(self, target: Target) -> None:
        self._target = target
        signature = Signature(self._completion_id, int(self._began), target.release.name, target.release.id)
        self.answer = Answer(signature, self._request.n or 1)

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


@contextmanager
def _nonsense_named() -> Iterator[None]:
    """Whatever goes wrong over what an engine said is the engine's failure, and told as such."""
    try:
        yield
    except AlignwayError:
        raise
    except Exception as error:
        log.warning("engine_answered_nonsense", exc_info=error)
        raise UpstreamError("The engine answered nonsense; the gateway's log says what.") from error
