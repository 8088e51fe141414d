"""Counts one request that is recorded nowhere, however it ended: limits and usage, metrics, trace, log line."""

import time
from collections.abc import Mapping

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.errors import AlignwayError
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.telemetry.meter import Meter


class Account:
    """The bookkeeping of one request."""

    def __init__(
        self,
        services: Services,
        caller: Caller,
        admission: Admission,
        end_user: str | None,
        prompt_tokens: int,
        label_release: bool,
    ) -> None:
        """`prompt_tokens`: a guess, until the engine has counted them.

        `label_release`: whether metrics tell which release answered; models that are passed on have none.
        """
        self._services, self._caller, self._admission, self._end_user = services, caller, admission, end_user
        self._prompt_tokens, self._label_release = prompt_tokens, label_release
        self._began = time.monotonic()
        self._meter: Meter | None = None
        self._target: Target | None = None
        self.first_chunk_seconds: float | None = None
        """Of a stream; a whole answer has none."""
        self.usage: Mapping[str, int] = {}
        """What it cost, as far as is known."""
        self.pieces = 0
        """Of a stream, until its engine says how many tokens they are."""

    def sent_to(self, target: Target) -> None:
        """The request goes to an engine; to another one, if it is tried again."""
        self._target = target
        release = target.release.name if self._label_release else ""
        meter = self._services.metrics.meter(target.release.alias, release, self._caller.name)
        if meter is self._meter:
            return
        if self._meter is not None:  # another release answers than the one that was asked first
            self._meter.in_flight -= 1
        self._meter = meter
        meter.began()

    def first_chunk(self) -> None:
        """The first piece of a stream is there."""
        self.first_chunk_seconds = time.monotonic() - self._began

    def ended(self, status: str, completion_id: str, error: AlignwayError | None) -> None:
        """The request is over: `finished`, `failed` or `aborted`."""
        services, seconds = self._services, time.monotonic() - self._began
        counts = self.usage.get("prompt_tokens", 0), self.usage.get("completion_tokens", 0)
        user_hash = services.secrets.keyed_hash("end_user", self._end_user) if self._end_user else None
        if status == "aborted" and not any(counts) and self._target is not None:
            self._admission.settle(self._prompt_tokens, self.pieces, user_hash)  # leaving early makes nothing free
        else:
            self._admission.settle(*counts, user_hash)
        if self._meter is not None:
            self._meter.ended(status, *counts, self.first_chunk_seconds, seconds)
        if error is not None and not error.counted:
            services.metrics.refused(error.status, error.code)
            error.counted = True
        services.request_log.ended(
            status,
            completion_id=completion_id,
            alias=None if self._target is None else self._target.release.alias,
            release=None if self._target is None or not self._label_release else self._target.release.name,
            key_name=self._caller.name,
            prompt_tokens=counts[0],
            completion_tokens=counts[1],
            first_chunk_seconds=self.first_chunk_seconds,
            total_seconds=seconds,
            error=error,
        )
