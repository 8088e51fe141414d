"""One log line for each finished request, as far as wanted. Never a key; prompts only if the settings say so."""

from collections.abc import Callable
from typing import Any

import structlog

from gateway.errors import AlignwayError
from gateway.settings import TelemetrySettings

log = structlog.get_logger(__name__)


class RequestLog:
    """Writes lines of requests that have ended."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self._all = settings.request_log == "all"
        self._errors = settings.request_log != "off"
        self._prompts = settings.log_prompts

    def wants(self, status: str, error: AlignwayError | None) -> bool:
        """Whether `ended` would write a line: ask first where every microsecond counts."""
        return self._all or (self._errors and (error is not None or status == "failed"))

    def ended(
        self,
        status: str,
        *,
        completion_id: str,
        alias: str | None,
        release: str | None,
        key_name: str,
        prompt_tokens: int,
        completion_tokens: int,
        first_chunk_seconds: float | None,
        total_seconds: float,
        error: AlignwayError | None = None,
        prompt: Callable[[], str] | None = None,
    ) -> None:
        """A request is over, as `finished`, `failed` or `aborted`. `prompt` is called only if prompts are logged."""
        if not self.wants(status, error):
            return
        fields: dict[str, Any] = {
            "status": status,
            "completion_id": completion_id,
            "alias": alias,
            "release": release,
            "key": key_name,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "first_chunk_seconds": None if first_chunk_seconds is None else round(first_chunk_seconds, 6),
            "total_seconds": round(total_seconds, 6),
        }
        if error is not None:
            fields |= {"http_status": error.status, "code": error.code}
        if self._prompts and prompt is not None:
            fields["prompt"] = prompt()
        failed = error is not None or status == "failed"
        (log.warning if failed else log.info)("request_ended", **fields)
