"""The error tree. Each error has a name, a cause, and an answer for the client: status, type, code, what to do.

One handler (`gateway/routes/errors.py`) turns them into OpenAI's error body. Nothing here knows HTTP beyond numbers.
"""

from collections.abc import Mapping


class AlignwayError(Exception):
    """Any error that a user may meet. Its text says what happened and what to do."""

    status = 500
    type = "server_error"
    code: str = "internal_error"
    param: str | None = None
    retry_after_seconds: float | None = None
    counted = False
    """Whether metrics have it already."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers: Mapping[str, str] = {}
        """Further headers of the answer."""
        self.param = param if param is not None else self.param
        self.code = code or self.code


class InvalidRequest(AlignwayError):
    """The client asked for something that cannot be; asking again will not help."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class NotAuthenticated(AlignwayError):
    """No key, or one that is unknown, expired or revoked."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class NotPermitted(AlignwayError):
    """The key is good, but not for this."""

    status, type, code = 403, "permission_error", "missing_scope"


class NotFound(AlignwayError):
    """Unknown, or belonging to another project: the answer is the same for both."""

    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    """No alias or release goes by this name."""

    code, param = "model_not_found", "model"


class WrongTask(InvalidRequest):
    """The model does something else than what was asked of it."""

    code, param = "wrong_task", "model"

    def __init__(self, model: str, task: str) -> None:
        chats = "/v1/chat/completions, /v1/responses and /v1/completions"
        routes = {"chat": chats, "embed": "/v1/embeddings", "rerank": "/v1/rerank"}[task]
        super().__init__(f"The model `{model}` answers on {routes} alone. GET /v1/models lists the models.")


class Conflict(AlignwayError):
    """The state has moved on, or another call is in the way."""

    status, type, code = 409, "conflict_error", "conflict"


class TooLarge(AlignwayError):
    """A body over the limit."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedMediaType(AlignwayError):
    """A body that is not plain JSON."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class Overloaded(AlignwayError):
    """More work than the queue holds; trying again later helps."""

    status, type, code = 429, "rate_limit_error", "queue_full"
    retry_after_seconds = 2.0


class RateLimited(AlignwayError):
    """The key has used up one of its limits; after `retry_after_seconds` there is room again."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class Unavailable(AlignwayError):
    """Something behind the gateway is down; trying again later can help."""

    status, type, code = 503, "server_error", "unavailable"
    retry_after_seconds = 2.0


class NoReplicaReady(Unavailable):
    """Every replica of the model is starting, draining, loading or out of reach."""

    code = "no_replica_ready"


class DatabaseUnavailable(Unavailable):
    """The database is locked, full or out of reach; nothing was written."""

    code = "database_unavailable"


class UpstreamError(AlignwayError):
    """An engine failed or answered nonsense."""

    status, type, code = 502, "server_error", "upstream_error"


class UpstreamRefused(InvalidRequest):
    """An engine refused the request for a reason that lies in the request."""

    code = "invalid_request"


class SwapFailed(AlignwayError):
    """An engine could not take new weights."""

    code = "swap_failed"


class StartupFailed(AlignwayError):
    """Alignway cannot start as it is set up."""

    code = "startup_failed"
