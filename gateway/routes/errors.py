"""Turns every error, our own and the framework's, into OpenAI's envelope."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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
    if status == 404:
        message, code = f"There is no route {request.method} {request.url.path}. See /openapi.json.", "unknown_url"
    elif status == 405:
        message, code = f"{request.url.path} does not take {request.method}. See /openapi.json.", "method_not_allowed"
    else:
        message, code = str(getattr(error, "detail", error)), "http_error"
    answer = InvalidRequest(message, code=code)
    answer.status = status
    response = _answer(request, answer)
    response.headers.update(getattr(error, "headers", None) or {})  # such as `Allow`, with a 405
    return response


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _answer(request, InvalidRequest(f"`{param}`: {first['msg']}.", param=param, code="invalid_value"))


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    text = "Something went wrong inside Alignway; its log says what. Please report it."
    return _answer(request, AlignwayError(text))
