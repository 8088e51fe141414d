"""Counts and records one request, however it ended: metrics, trace, limits and usage, and the completion itself."""

import time
from collections.abc import Callable

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.errors import AlignwayError, InvalidRequest
from gateway.relay.admission import prompt_tokens
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.storage.completion_log import CompletionRow
from gateway.telemetry.meter import Meter
from gateway.telemetry.traces import Span, well_formed
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Answer
from gateway.wire.reply_types import ShownUsage

ESCAPED_NUL = b"\\u0000"
NO_USAGE = ShownUsage()


class Tally:
    """The bookkeeping of one request."""

    __slots__ = (
        "_admission",
        "_caller",
        "_meter",
        "_request",
        "_services",
        "_span",
        "_target",
        "began",
        "first_chunk_seconds",
        "traceparent",
    )

    def __init__(
        self,
        services: Services,
        caller: Caller,
        request: ChatRequest,
        admission: Admission,
        traceparent: str | None = None,
    ) -> None:
        self._services, self._caller, self._request, self._admission = services, caller, request, admission
        self.began = time.time()
        """When the request came, in seconds since 1970."""
        self._meter: Meter | None = None
        self._target: Target | None = None
        self._span: Span | None = services.traces.begin(request.model, caller, traceparent)
        self.traceparent = well_formed(traceparent) if self._span is None else self._span.traceparent
        """What the engine is told of the trace."""
        self.first_chunk_seconds: float | None = None

    def sent_to(self, target: Target) -> None:
        """The request goes to an engine; to another one, if it is tried again."""
        self._target, release = target, target.release
        meter = self._services.metrics.meter(release.alias, release.name, self._caller.name)
        if meter is self._meter:
            return
        if self._meter is not None:  # another release answers than the one that was asked first
            self._meter.in_flight -= 1
        self._meter = meter
        meter.began()

    def first_chunk(self) -> None:
        """The engine said something."""
        if self.first_chunk_seconds is None:
            self.first_chunk_seconds = time.time() - self.began

    def ended(
        self,
        status: str,
        completion_id: str,
        answer: Answer | None,
        error: AlignwayError | None,
        done: Callable[[bool], None],
    ) -> None:
        """The request is over; `done` hears once its completion is recorded, or that it cannot be."""
        services, request = self._services, self._request
        usage = NO_USAGE if answer is None else answer.usage
        end_user = request.end_user
        user_hash = services.secrets.keyed_hash("end_user", end_user) if end_user else None
        seconds = time.time() - self.began
        asked, said = usage.prompt_tokens, usage.completion_tokens
        streamed_after = self.first_chunk_seconds if request.stream else None  # a whole answer has no first chunk
        cost = self._cost_of_leaving(answer) if status == "aborted" else (asked, said)
        self._admission.settle(*cost, user_hash)
        if self._meter is not None:
            self._meter.ended(status, asked, said, streamed_after, seconds)
        if error is not None:
            services.metrics.refused(error.status, error.code)
            error.counted = True
        if self._span is not None:
            self._end_span(self._span, status, completion_id, answer, error, streamed_after)
        if services.request_log.wants(status, error):
            self._log(status, completion_id, usage, seconds, error)
        target = self._target
        wanted = is_stored(request.store, services.settings.surface.store)
        if answer is None or target is None or not wanted or isinstance(error, InvalidRequest):
            done(True)
            return
        row = self._row(target, status, completion_id, answer, user_hash, seconds)
        services.completions.write(row, done)

    def _cost_of_leaving(self, answer: Answer | None) -> tuple[int, int]:
        """Prompt and completion tokens. Whoever leaves before the engine has counted them pays for what was said."""
        if answer is None:
            return 0, 0
        if not answer.usage.total_tokens:
            return prompt_tokens(self._request), answer.tokens_heard()
        return answer.usage.prompt_tokens, answer.usage.completion_tokens

    def _log(
        self, status: str, completion_id: str, usage: ShownUsage, seconds: float, error: AlignwayError | None
    ) -> None:
        target = self._target
        self._services.request_log.ended(
            status,
            completion_id=completion_id,
            alias=None if target is None else target.release.alias,
            release=None if target is None else target.release.name,
            key_name=self._caller.name,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            first_chunk_seconds=self.first_chunk_seconds,
            total_seconds=seconds,
            error=error,
            prompt=lambda: self._request.stored_messages_json.decode(),
        )

    def _row(
        self, target: Target, status: str, completion_id: str, answer: Answer, user_hash: str | None, seconds: float
    ) -> CompletionRow:
        request, caller, release = self._request, self._caller, target.release
        return CompletionRow(
            id=completion_id,
            project_id=caller.project_id,
            key_id=caller.key_id,
            alias=release.alias,
            release_id=release.id,
            status=status,
            messages=_text(request.stored_messages_json),
            parameters=_text(request.parameters_json),
            choices=_text(answer.choices_json()),
            usage=answer.usage_json().decode(),
            end_user_hash=user_hash,
            created_at=self.began,
            first_chunk_seconds=self.first_chunk_seconds,
            total_seconds=seconds,
            call_metadata=_text(request.metadata_json) if request.metadata else "{}",
        )

    def _end_span(
        self,
        span: Span,
        status: str,
        completion_id: str,
        answer: Answer | None,
        error: AlignwayError | None,
        streamed_after: float | None,
    ) -> None:
        target = self._target
        span.end(
            status=status,
            response_id=completion_id,
            response_model=None if target is None else target.release.name,
            finish_reasons=() if answer is None else answer.finish_reasons(),
            prompt_tokens=None if answer is None else answer.usage.prompt_tokens,
            completion_tokens=None if answer is None else answer.usage.completion_tokens,
            first_chunk_seconds=streamed_after,
            error=error,
            engine_url=None if target is None else target.url,
        )


def is_stored(asked: bool | None, policy: str) -> bool:
    """Whether a completion is kept: the operator's word, but for a client that says no."""
    if policy == "always":
        return asked is not False
    return policy == "on_request" and asked is True


def _text(json: bytes) -> str:
    """JSON as it is stored, with NUL characters replaced: PostgreSQL cannot store them, and they say nothing."""
    if ESCAPED_NUL in json:
        # An odd number of backslashes stands before a real one: `\\\\u0000` is a backslash and five characters.
        parts = json.split(b"\\\\")
        json = b"\\\\".join(part.replace(ESCAPED_NUL, b"\\ufffd") for part in parts)
    return json.decode()
