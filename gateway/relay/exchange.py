"""One chat request from dispatch to record, as a chain of callbacks: no task and no queue while all goes well.

It is tried again on another replica only as long as nothing of an answer has come. Knows engines and records; knows
nothing of the client's connection, which is an `Outlet`.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.contracts import ids
from gateway.engines.dialects import dialect_of
from gateway.engines.failures import NothingGenerated
from gateway.engines.upstream import Connection, Origin
from gateway.errors import AlignwayError, InvalidRequest, UpstreamError
from gateway.relay.asking import CHAT_PATH, answer_to, engine_request, routing_keys
from gateway.relay.mended import mended_call
from gateway.relay.outlet import Outlet, as_ours
from gateway.relay.receiving import Receiving
from gateway.relay.tally import Tally
from gateway.routing.drain import ServerShuttingDown
from gateway.routing.pool import Lease
from gateway.services import Services
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Signature, StreamedAnswer, WholeAnswer

DONE = b"data: [DONE]\n\n"

log = structlog.get_logger(__name__)


class ChatExchange(Receiving):
    """One request, its attempts and its answer."""

    _task: asyncio.Task[None] | None = None
    _resumed: asyncio.Event | None = None
    _paused = _told = False

    def __init__(
        self,
        services: Services,
        caller: Caller,
        request: ChatRequest,
        admission: Admission,
        outlet: Outlet,
        *,
        completion_id: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.completion_id = completion_id or ids.mint(ids.COMPLETION)
        self._services, self._caller, self._request, self._outlet = services, caller, request, outlet
        self._tally = Tally(services, caller, request, admission, traceparent)
        self._streams = request.stream
        self._attempts: dict[type[AlignwayError], int] = {}

    # ---- what the client's side calls

    def start(self) -> None:
        """Send the request to an engine, now or when one is free."""
        try:
            self._services.drain.add(self)
            self._dispatch()
        except Exception as error:
            self._fail(as_ours(error))

    def leave(self) -> None:
        """The client is gone: the engine stops, and what was said is recorded."""
        if not self._over:
            self._drop()
            self._end("aborted")

    def end_now(self) -> None:
        """The time to drain is over."""
        if not self._over:
            self._drop()
            self._fail(ServerShuttingDown())

    def pause(self) -> None:
        """The client takes no more for now: nor do we from the engine."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client takes more."""
        self._paused = False
        if self._resumed is not None:
            self._resumed.set()
        if self._connection is not None:
            self._connection.resume(self._patience)

    # ---- dispatch

    @property
    def _patience(self) -> float:
        settings = self._services.settings.upstream
        return settings.read_timeout_seconds if self._streams else settings.reply_timeout_seconds

    def _dispatch(self) -> None:
        pool, model = self._services.pool, self._request.model
        lease = pool.try_take(model, *self._keys()) if pool.table.needs_keys else pool.try_take(model, b"")
        if lease is not None:
            self._send(lease)
        else:
            self._run(self._wait_for_lease())

    def _keys(self) -> tuple[bytes, bytes]:
        return routing_keys(self._request, self._caller.project_id, self._caller.key_id)

    async def _wait_for_lease(self) -> None:
        arrived = time.monotonic()
        try:
            lease = await self._services.pool.take(self._request.model, *self._keys())
        finally:
            self._services.metrics.queue_wait.observe(time.monotonic() - arrived)
        self._send(lease)

    def _send(self, lease: Lease) -> None:
        self._lease, target, request, services = lease, lease.target, self._request, self._services
        if request.images and not services.takes_images(target.release.alias):
            raise InvalidRequest(
                "This model takes no images; send text. If it can see, set `images = true` in its `[[models]]` entry.",
                param="messages",
                code="images_not_supported",
            )
        tally, release, self._held = self._tally, target.release, []
        tally.sent_to(target)
        signature = Signature(self.completion_id, int(tally.began), release.name, release.id)
        self._answer = answer_to(request, signature, services.settings.surface.extensions != "strict")
        dialect = dialect_of(target.kind)
        parameters = dialect.parameters(request.parameters_json, request.choices)
        if dialect.mends(parameters):
            self._run(mended_call(services.engines, target, request, self, tally.traceparent))
            return
        origin = services.upstreams.origin(target.url)
        head = origin.head(CHAT_PATH)
        data = engine_request(request, dialect, parameters, target.engine_model, head, tally.traceparent)
        connection = None if self._attempts else origin.take_idle()  # an idle one may be why it is tried again
        if connection is None:
            self._run(self._connect(origin, data))
        else:
            self._hand_over(connection, data)

    async def _connect(self, origin: Origin, data: bytes) -> None:
        connection = await origin.connect(self._services.settings.upstream.connect_timeout_seconds)
        if self._services.pool.freshness.is_fresh():
            self._hand_over(connection, data)
            return
        origin.put_back(connection)  # this worker may have been taken for dead meanwhile: look again before sending
        if self._lease is not None:
            self._lease.release()
        self._dispatch()

    def _hand_over(self, connection: Connection, data: bytes) -> None:
        self._connection = connection
        self.expect_reply()
        connection.send(data, self, self._patience)
        if self._paused:
            connection.pause()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do in a task what cannot be done at once; what it raises is the end of this attempt."""
        self._task = asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.reply_failed(as_ours(error))

    # ---- what an engine's connection calls

    def reply_failed(self, error: AlignwayError) -> None:
        """This attempt is over; another one may follow."""
        if self._over:
            return
        self._connection = None
        if self._lease is not None:
            self._services.pool.report(self._lease.target, error, self._request.engine_messages_json)
            self._lease.release()
        if isinstance(error, NothingGenerated) and self._tally.first_chunk_seconds is None:
            kind = type(error)
            self._attempts[kind] = self._attempts.get(kind, 0) + 1
            if self._attempts[kind] < error.max_attempts:
                try:
                    self._dispatch()
                except Exception as final:
                    self._fail(as_ours(final))
                return
        self._fail(error)

    async def room(self) -> None:
        """Wait while the client takes no more; for answers that do not come straight from a connection."""
        if self._paused:
            self._resumed = asyncio.Event()
            await self._resumed.wait()

    def _answered(self, lease: Lease) -> None:
        self._services.pool.report(lease.target, None)

    # ---- the end

    def _complete(self, answer: StreamedAnswer | WholeAnswer) -> None:
        """The engine is done: record, then send what is left."""
        if not answer.finished:
            raise UpstreamError("The engine ended the answer without a finish reason. It is incomplete; ask again.")
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.let_go()
        self._end("finished")

    def _accounted(self, recorded: bool) -> None:
        if not recorded:
            self._services.metrics.unrecorded.inc()

    def _recorded(self, recorded: bool) -> None:
        if not recorded:
            self._accounted(recorded)
        if self._told:
            return
        self._told = True
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if isinstance(self._answer, StreamedAnswer):
            usage = self._answer.usage_event() if self._request.wants_usage else b""
            self._outlet.end(data + usage + DONE)
        else:
            self._outlet.whole(data)

    def _fail(self, error: AlignwayError) -> None:
        if not self._over:
            self._end("failed", error)
            self._outlet.failed(error)

    def _drop(self) -> None:
        """Stop the engine's work, and ours."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.forget()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _end(self, status: str, error: AlignwayError | None = None) -> None:
        self._over = True
        self._services.drain.discard(self)
        if self._lease is not None:
            self._lease.release()
        then = self._recorded if status == "finished" else self._accounted
        try:
            self._tally.ended(status, self.completion_id, self._answer, error, then)
        except Exception as unexpected:  # whatever goes wrong in the books, the client has its answer
            log.error("request_not_accounted", exc_info=unexpected)
            then(False)
        comparisons = self._services.comparisons
        if comparisons is not None and status == "finished" and self._lease is not None:
            comparisons.offer(self._request, self._caller, self._lease.target, self.completion_id)
