"""Who sends a vote: the bearer of an API key, or of vote tokens."""

import time

from fastapi import Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import NotPermitted
from gateway.feedback.bodies import AnyBody, Rater
from gateway.feedback.identity import DELEGATE
from gateway.feedback.tokens import HEADER, PREFIX, TYPES, BadVoteToken, read_all
from gateway.relay.naming import header_text
from gateway.services import Services
from gateway.storage.tables import ApiKey

MAX_NAME = 256
_by_key = require("feedback")


async def voter(request: Request) -> Caller:
    """The caller of `POST /v1/feedback`. Raises `NotAuthenticated` or `NotPermitted`."""
    tokens = _tokens(request)
    if tokens is None:
        return await _by_key(request)
    services: Services = request.app.state.services
    now = time.time()
    found = read_all(services.secrets, tokens, now)
    first = found[0]
    async with services.database.read() as session:
        key = await session.get(ApiKey, first.key_id)
    if key is not None and (key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)):
        raise BadVoteToken("The API key behind this vote token is no longer good. Ask the server of this page.")
    return Caller(
        key_id=first.key_id,
        project_id=first.project_id,
        scopes=frozenset({"feedback"}),
        name="vote token",
        rater_hash=first.rater_hash,
        rateable=frozenset(token.completion_id for token in found),
    )


def in_the_name_of(request: Request, caller: Caller, body: AnyBody) -> AnyBody:
    """The body with the rater that a header names, where the settings and the key allow that.

    Raises `NotPermitted` if a vote token is used for more than a judgement.
    """
    if caller.rateable is not None and body.type not in TYPES:
        raise NotPermitted(
            f"A vote token allows {', '.join(sorted(TYPES))}, not {body.type}. Send this with an API key from a server."
        )
    header = request.app.state.services.settings.users.header
    named = request.headers.get(header) if header and body.rater is None and caller.may(DELEGATE) else None
    user = header_text(named.encode("latin-1"))[:MAX_NAME] if named else None
    return body.model_copy(update={"rater": Rater(id=user)}) if user else body


def _tokens(request: Request) -> str | None:
    if (header := request.headers.get(HEADER)) is not None:
        return header
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret if scheme.lower() == "bearer" and secret.startswith(PREFIX) else None
