"""Reading request bodies within their limit."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.errors import InvalidRequest, TooLarge
from gateway.wire.chat import invalid_field, parse_json

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it exceeds `server.body_limit_bytes`."""
    limit = request.app.state.services.settings.server.body_limit_bytes
    received = bytearray()
    async for block in request.stream():
        received += block
        if len(received) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes. Send less, or raise `server.body_limit_bytes`.")
    return bytes(received)


async def read_model(request: Request, model: type[Body]) -> Body:
    """The body as a validated model; an absent body counts as `{}`. Raises `InvalidRequest` naming the parameter."""
    raw = await read_body(request)
    fields: Any = parse_json(raw) if raw else {}
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error
