"""Who may ask, and how much: from the head of a request to a caller, and from the request to what it may cost."""

from collections.abc import Mapping

from gateway.access.authenticate import check_scope
from gateway.access.caller import Caller
from gateway.access.loopback import refuse_foreign
from gateway.errors import TooLarge
from gateway.services import Services
from gateway.wire.chat import ChatRequest

SCOPE = "inference"
BYTES_PER_TOKEN = 4
"""What a prompt is taken to cost before the engine has counted it."""
TOKENS_PER_IMAGE = 1000
"""What an image of a megapixel comes to with the usual models, give or take a half."""


def caller_at_once(services: Services, head: Mapping[bytes, bytes], authorization: str | None) -> Caller | None:
    """The caller, if its key was looked up a moment ago; None: the database must be asked. Raises `NotPermitted`."""
    authenticator = services.authenticator
    if authenticator.open_to_all:
        refuse_foreign(_text(head.get(b"host")), _text(head.get(b"origin")))
    caller = authenticator.remembered(authorization)
    if caller is not None and SCOPE not in caller.scopes:
        check_scope(caller, SCOPE)
    return caller


async def authenticated(services: Services, authorization: str | None) -> Caller:
    """The caller. Raises `NotAuthenticated` or `NotPermitted`."""
    caller = await services.authenticator.authenticate(authorization, SCOPE)
    check_scope(caller, SCOPE)
    return caller


def prompt_tokens(request: ChatRequest) -> int:
    """What a prompt may hold: a guess by its size, an image counting alike however large its file is."""
    if not request.images:
        return len(request.engine_messages_json) // BYTES_PER_TOKEN
    text_bytes = len(request.engine_messages_json) - request.image_bytes
    return text_bytes // BYTES_PER_TOKEN + request.images * TOKENS_PER_IMAGE


def estimated_tokens(request: ChatRequest) -> int:
    """What a request may cost, to be set right when it is over."""
    return prompt_tokens(request) + request.choices * (request.max_tokens_asked or 0)


def too_large(limit: int) -> TooLarge:
    """The refusal of a body over the limit."""
    return TooLarge(f"The body is larger than {limit} bytes. Send less, or raise `server.body_limit_bytes`.")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
