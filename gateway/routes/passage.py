"""One request that goes on to an engine and is recorded nowhere: dispatch, limits, counts. No vote can be cast on it.

It is tried again on another replica only as long as nothing of an answer has come.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import structlog

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.engines.failures import NothingGenerated
from gateway.errors import AlignwayError, UpstreamError
from gateway.routes.account import Account
from gateway.routing.policy import Target
from gateway.routing.pool import Lease
from gateway.services import Services
from gateway.telemetry.traces import well_formed

STICKY_CHARACTERS = 4096

log = structlog.get_logger(__name__)

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What is asked, and of which kind of model."""

    id: str
    """Of the answer."""
    model: str
    task: str
    path: str
    """The engine's route."""
    operation: str
    """In the words of OpenTelemetry."""
    body: Callable[[str], Json]
    """What the engine is sent, given what it calls the model."""
    first_text: str
    end_user: str | None
    prompt_tokens: int
    """A guess at the cost of what is asked."""
    answer_tokens: int = 0
    """What the answer may cost, as far as the client bounds it."""


class Passage:
    """One request, its attempts and its cost."""

    def __init__(
        self, services: Services, caller: Caller, asked: Asked, admission: Admission, traceparent: str | None
    ) -> None:
        self._services, self._caller, self._asked, self._admission = services, caller, asked, admission
        self._account = Account(
            services, caller, admission, asked.end_user, asked.prompt_tokens, label_release=asked.task == "chat"
        )
        self._span = services.traces.begin(asked.model, caller, traceparent, asked.operation)
        self._traceparent = well_formed(traceparent) if self._span is None else self._span.traceparent
        self._lease: Lease | None = None

    @classmethod
    async def admitted(cls, services: Services, caller: Caller, asked: Asked, traceparent: str | None) -> "Passage":
        """Counted against the limits of the caller's key. Raises `RateLimited`."""
        services.pool.table.find(asked.model, asked.task)  # what cannot be asked costs nothing
        admission = await services.limiter.admit(caller, asked.prompt_tokens + asked.answer_tokens)
        return cls(services, caller, asked, admission, traceparent)

    @property
    def headers(self) -> dict[str, str]:
        """Headers about the limits of the caller's key."""
        return dict(self._admission.headers)

    def cost(self, usage: Mapping[str, int]) -> None:
        """What it cost, as far as is known by now."""
        self._account.usage = usage

    async def whole(self, read: Callable[[Json, Target], Json]) -> Json:
        """The client's reply, which `read` makes of the engine's."""
        async with self._accounted():
            reply, target = await self._first_success(self._ask)
            with nonsense_named():
                shown = read(reply, target)
            self.cost(shown["usage"])
            return shown

    async def chunks(self) -> AsyncGenerator[tuple[Json, Target], None]:
        """The engine's chunks and who writes them; closing the iterator ends the generation.

        Whoever reads them says by `cost` what they cost, before the last one.
        """
        async with self._accounted():
            (first, rest), target = await self._first_success(self._open)
            self._account.first_chunk()
            async with aclosing(rest):
                self._account.pieces += 1
                yield first, target
                async for chunk in rest:
                    self._account.pieces += 1
                    yield chunk, target

    async def _ask(self, target: Target) -> Json:
        body, path = self._asked.body(target.engine_model), self._asked.path
        return await self._services.engines.pass_on(target.url, path, body, target.kind, self._traceparent)

    async def _open(self, target: Target) -> tuple[Json, AsyncGenerator[Json, None]]:
        body, path = self._asked.body(target.engine_model), self._asked.path
        chunks = self._services.engines.pass_stream_on(target.url, path, body, target.kind, self._traceparent)
        first = await anext(chunks, None)
        if first is None:
            raise UpstreamError("The engine ended the answer before it began; see the engine's log.")
        return first, chunks

    async def _first_success(self, attempt: Callable[[Target], Awaitable[T]]) -> tuple[T, Target]:
        met: Counter[type[NothingGenerated]] = Counter()
        pool = self._services.pool
        while True:
            self._lease = lease = await pool.take(self._asked.model, self._sticky_key(), task=self._asked.task)
            self._account.sent_to(lease.target)
            try:
                result = await attempt(lease.target)
            except AlignwayError as error:
                pool.report(lease.target, error, msgspec.json.encode(self._asked.body("")))
                lease.release()
                if not isinstance(error, NothingGenerated):
                    raise
                met[type(error)] += 1
                if met[type(error)] >= error.max_attempts:
                    raise
            else:
                pool.report(lease.target, None)
                return result, lease.target

    def _sticky_key(self) -> bytes:
        """Sticky by end user when given, else by key and first text."""
        if self._asked.end_user is not None:
            return f"{self._caller.project_id}\0{self._asked.end_user}".encode()
        return f"{self._caller.key_id}\0{self._asked.first_text[:STICKY_CHARACTERS]}".encode()

    @asynccontextmanager
    async def _accounted(self) -> AsyncIterator[None]:
        """Around the whole request: counted after it, however it ends."""
        status, met = "aborted", None
        try:
            yield
            status = "finished"
        except Exception as error:
            status, met = "failed", error if isinstance(error, AlignwayError) else None
            raise
        finally:
            if self._lease is not None:
                self._lease.release()
            self._account.ended(status, self._asked.id, met)
            self._end_span(status, met)

    def _end_span(self, status: str, error: AlignwayError | None) -> None:
        if self._span is None:
            return
        target, usage = None if self._lease is None else self._lease.target, self._account.usage
        self._span.end(
            status=status,
            response_id=self._asked.id,
            response_model=None if target is None else target.release.name,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            first_chunk_seconds=self._account.first_chunk_seconds,
            error=error,
            engine_url=None if target is None else target.url,
        )


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
