"""Turns every error, our own and the framework's, into OpenAI's envelope."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gateway.errors import AlignwayError, InvalidRequest
from gateway.wire.error_body import error_body, error_headers

log = structlog.get_logger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """No route, and no missing route, answers with anything but the envelope."""
    app.add_exception_handler(AlignwayError, _own_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)


def error_response(error: AlignwayError) -> JSONResponse:
    """The response for an error."""
    return JSONResponse(error_body(error), status_code=error.status, headers=error_headers(error))


def _answer(request: Request, error: AlignwayError) -> JSONResponse:
    if not error.counted:
        request.app.state.services.metrics.refused(error.status, error.code)
    return error_response(error)


async def _own_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AlignwayError):
        raise TypeError("installed for AlignwayError only")
    return _answer(request, error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path, allow = request.url.path, ""
    if status == 404:
        message, code = f"There is no route {request.method} {path}. {_where_it_is(request, path)}", "unknown_url"
    elif status == 405:
        allow = ", ".join(sorted(_methods(request, path)))
        message, code = f"{path} does not take {request.method}, but {allow}. See /openapi.json.", "method_not_allowed"
    else:
        message, code = str(getattr(error, "detail", error)), "http_error"
    answer = InvalidRequest(message, code=code)
    answer.status = status
    response = _answer(request, answer)
    response.headers.update(getattr(error, "headers", None) or {})
    if allow:  # the framework's own names the methods of one route of the path alone
        response.headers["allow"] = allow
    return response


def _where_it_is(request: Request, path: str) -> str:
    """Where whoever asked for this path most likely wants to go."""
    if _methods(request, "/v1" + path):
        return "The `base_url` of a client ends with `/v1`."
    if path.startswith("/v1/v1/") and _methods(request, path.removeprefix("/v1")):
        return "The `base_url` of a client ends with one `/v1`, not two."
    if path.endswith("/") and _methods(request, path.rstrip("/")):
        return "Leave out the slash at its end."
    return "See /openapi.json."


def _methods(request: Request, path: str) -> set[str]:
    """The methods that a path takes, over all routes."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches({"type": "http", "path": path, "method": "", "headers": []})[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _answer(request, InvalidRequest(f"`{param}`: {first['msg']}.", param=param, code="invalid_value"))


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    text = "Something went wrong inside Alignway; its log says what. Please report it."
    return _answer(request, AlignwayError(text))
