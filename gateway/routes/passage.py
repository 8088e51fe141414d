"""One request that goes on to an engine and is recorded nowhere: dispatch, limits, counts. No vote can be cast on it.

It is tried again on another replica only as long as nothing of an answer has come.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.engines.failures import NothingGenerated
from gateway.errors import AlignwayError, UpstreamError
from gateway.routing.policy import Target
from gateway.routing.pool import Lease
from gateway.services import Services
from gateway.telemetry.meter import Meter

STICKY_CHARACTERS = 4096

log = structlog.get_logger(__name__)

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What is asked, and of which kind of model."""

    model: str
    task: str
    path: str
    """The engine's route."""
    body: Callable[[str], Json]
    """What the engine is sent, given what it calls the model."""
    first_text: str
    end_user: str | None
    tokens: int
    """A guess at what it will cost, for limits."""


class Passage:
    """One request, its attempts and its cost."""

    def __init__(self, services: Services, caller: Caller, asked: Asked, admission: Admission) -> None:
        self._services, self._caller, self._asked, self._admission = services, caller, asked, admission
        self._began = time.monotonic()
        self._first_chunk_seconds: float | None = None
        self._meter: Meter | None = None
        self._lease: Lease | None = None
        self.usage: Json = {}
        """What it cost, as far as is known."""

    @classmethod
    async def admitted(cls, services: Services, caller: Caller, asked: Asked) -> "Passage":
        """Counted against the limits of the caller's key. Raises `RateLimited`."""
        services.pool.table.find(asked.model, asked.task)  # what cannot be asked costs nothing
        return cls(services, caller, asked, await services.limiter.admit(caller, asked.tokens))

    @property
    def headers(self) -> dict[str, str]:
        """Headers about the limits of the caller's key."""
        return dict(self._admission.headers)

    async def whole(self, read: Callable[[Json, Target], Json]) -> Json:
        """The client's reply, which `read` makes of the engine's."""
        async with self._counted():
            engines = self._services.engines
            body, path = self._asked.body, self._asked.path

            async def ask(target: Target) -> Json:
                return await engines.pass_on(target.url, path, body(target.engine_model), target.kind)

            reply, target = await self._first_success(ask)
            self._first_chunk_seconds = None  # a whole answer has none
            with nonsense_named():
                shown = read(reply, target)
            self.usage = shown["usage"]
            return shown

    async def chunks(self) -> AsyncGenerator[tuple[Json, Target], None]:
        """The engine's chunks and who writes them; closing the iterator ends the generation.

        Whoever reads them sets `usage` before the last one.
        """
        async with self._counted():
            (first, rest), target = await self._first_success(self._open)
            async with aclosing(rest):
                yield first, target
                async for chunk in rest:
                    yield chunk, target

    async def _open(self, target: Target) -> tuple[Json, AsyncGenerator[Json, None]]:
        body = self._asked.body(target.engine_model)
        chunks = self._services.engines.pass_stream_on(target.url, self._asked.path, body, target.kind)
        first = await anext(chunks, None)
        if first is None:
            raise UpstreamError("The engine ended the answer before it began; see the engine's log.")
        return first, chunks

    async def _first_success(self, attempt: Callable[[Target], Awaitable[T]]) -> tuple[T, Target]:
        met: Counter[type[NothingGenerated]] = Counter()
        pool = self._services.pool
        while True:
            self._lease = lease = await pool.take(self._asked.model, self._sticky_key(), task=self._asked.task)
            self._note_target(lease.target)
            try:
                result = await attempt(lease.target)
            except AlignwayError as error:
                pool.report(lease.target, error)
                lease.release()
                if not isinstance(error, NothingGenerated):
                    raise
                met[type(error)] += 1
                if met[type(error)] >= error.max_attempts:
                    raise
            else:
                pool.report(lease.target, None)
                self._first_chunk_seconds = time.monotonic() - self._began
                return result, lease.target

    def _note_target(self, target: Target) -> None:
        if self._meter is None:
            release = target.release.name if self._asked.task == "chat" else ""
            self._meter = self._services.metrics.meter(target.release.alias, release, self._caller.name)
            self._meter.began()

    def _sticky_key(self) -> bytes:
        """Sticky by end user when given, else by key and first text."""
        if self._asked.end_user is not None:
            return f"{self._caller.project_id}\0{self._asked.end_user}".encode()
        return f"{self._caller.key_id}\0{self._asked.first_text[:STICKY_CHARACTERS]}".encode()

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """Around the whole request: counted after it, however it ends."""
        status = "aborted"
        try:
            yield
            status = "finished"
        except Exception as error:
            status = "failed"
            if isinstance(error, AlignwayError) and not error.counted:
                self._services.metrics.refused(error.status, error.code)
                error.counted = True
            raise
        finally:
            self._settle(status)

    def _settle(self, status: str) -> None:
        if self._lease is not None:
            self._lease.release()
        end_user = self._asked.end_user
        user_hash = self._services.secrets.keyed_hash("end_user", end_user) if end_user else None
        counts = self.usage.get("prompt_tokens", 0), self.usage.get("completion_tokens", 0)
        self._admission.settle(*counts, user_hash)
        if self._meter is not None:
            self._meter.ended(status, *counts, self._first_chunk_seconds, time.monotonic() - self._began)


@contextmanager
def nonsense_named() -> Iterator[None]:
    """Whatever goes wrong over what an engine said is the engine's failure, and told as such."""
    try:
        yield
    except AlignwayError:
        raise
    except Exception as error:
        log.warning("engine_answered_nonsense", exc_info=error)
        raise UpstreamError("The engine answered nonsense; the gateway's log says what.") from error
