"""What the headers of a chat say beyond its body: for whom it is, what it is about, and that it is a chore."""

import time
from collections.abc import Mapping

from gateway.access.caller import Caller
from gateway.feedback.tokens import HEADER, issue
from gateway.services import Services
from gateway.wire.chat import ChatRequest

DELEGATE = "feedback:delegate"
TASK_HEADER = b"x-alignway-task"
TOKEN_HEADER = HEADER.encode()
MAX_TEXT = 512

Head = Mapping[bytes, bytes]
"""Headers by their names in lower case."""


def take_names(services: Services, caller: Caller, request: ChatRequest, head: Head) -> None:
    """Put into the request what headers say of it: the end user and metadata (of trusted keys), and its chore."""
    users = services.settings.users
    if (task := head.get(TASK_HEADER)) is not None:
        request.metadata = (request.metadata or {}) | {"task": header_text(task)}
    if not (users.header or users.metadata_headers) or not caller.may(DELEGATE):
        return
    if users.header is not None and (user := head.get(users.header.encode())):
        request.end_user = header_text(user)
    for header, name in users.metadata_headers.items():
        if (value := head.get(header.encode())) is not None:
            request.metadata = (request.metadata or {}) | {name: header_text(value)}


def vote_token(services: Services, caller: Caller, request: ChatRequest, completion_id: str, head: Head) -> str | None:
    """A token to vote on this completion, where the client asks for one and may vote itself.

    It names the end user only where the key may name raters.
    """
    if TOKEN_HEADER not in head or not caller.may("feedback"):
        return None
    return issue(
        services.secrets,
        completion_id=completion_id,
        project_id=caller.project_id,
        key_id=caller.key_id,
        end_user=request.end_user if caller.may(DELEGATE) else None,
        expires_at=time.time() + services.settings.feedback.vote_token_seconds,
    )


def vote_token_line(services: Services, caller: Caller, request: ChatRequest, completion_id: str, head: Head) -> bytes:
    """The line of an answer's head that holds the token; nothing where none is wanted."""
    token = vote_token(services, caller, request, completion_id, head)
    return b"" if token is None else b"%b: %b\r\n" % (TOKEN_HEADER, token.encode())


def header_text(value: bytes) -> str:
    """What a header says: UTF-8 where it is that, bounded, without NUL."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.replace("\0", "")[:MAX_TEXT]
