"""Keys made, rotated and revoked on somebody's word: what they ask for is checked, and said back in plain words."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import assert_known
from gateway.access.caller import KeyLimits
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.storage import keys
from gateway.storage.audit import write_audit
from gateway.storage.keys import KeyTerms
from gateway.storage.tables import ApiKey

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 3650 * 86400.0
LONGEST_GRACE_SECONDS = 30 * 86400.0
MAX_NAME_CHARACTERS = 100
MAX_LIMIT = 10**12


def seconds_of(duration: str, param: str) -> float:
    """`90s`, `15m`, `12h` or `30d` in seconds."""
    spelt = re.fullmatch(r"([0-9]{1,9})([smhd])", duration.strip())
    if spelt is None:
        raise InvalidRequest(f"`{param}` is written like 90s, 15m, 12h or 30d, not `{duration[:40]}`.", param=param)
    return float(spelt[1]) * UNIT_SECONDS[spelt[2]]


def checked_terms(
    expires_in: str | None, expires_at: float | None, limits: KeyLimits, images: bool, train: bool = True
) -> KeyTerms:
    """The terms of a new key. Raises `InvalidRequest`, naming what cannot be."""
    for name, limit in limits._asdict().items():
        if limit is not None and not 0 < limit <= MAX_LIMIT:
            raise InvalidRequest(f"`{name}` is a whole number from 1 to {MAX_LIMIT}, or left out.", param=name)
    return KeyTerms(_expiry(expires_in, expires_at), *limits, images=images, train=train)


def checked_scopes(scopes: Sequence[str]) -> list[str]:
    """The scopes, each once. Raises `InvalidRequest` for one that does not exist, or for none at all."""
    wanted = list(dict.fromkeys(scope.strip() for scope in scopes if scope.strip()))
    for scope in wanted:
        try:
            assert_known(scope)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="scopes") from error
    if not wanted:
        raise InvalidRequest("A key without scopes can do nothing; name at least one.", param="scopes")
    return wanted


def checked_name(name: str, param: str = "name") -> str:
    """A name of 1 to 100 printable characters."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidRequest(f"`{param}` is 1 to {MAX_NAME_CHARACTERS} printable characters.", param=param)
    return name


async def issue_key(
    session: AsyncSession, project: str, name: str, scopes: Sequence[str], terms: KeyTerms, actor: str
) -> tuple[ApiKey, str]:
    """A new key of a project, which is made if need be, and its secret."""
    wanted, name = checked_scopes(scopes), checked_name(name)
    owner = await keys.ensure_project(session, checked_name(project, "project"))
    key, secret = await keys.create_key(session, owner.id, name, wanted, terms=terms)
    await note_new_key(session, key, actor)
    return key, secret


async def note_new_key(session: AsyncSession, key: ApiKey, actor: str) -> None:
    """Write into the audit that `actor` made a key."""
    await write_audit(session, actor=actor, action="key.created", subject=key.id, after=_audited(key))


async def find_by_id(session: AsyncSession, key_id: str) -> ApiKey:
    """The key of that id. Raises `NotFound`."""
    key = await session.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"There is no key `{key_id}`; `alignway keys list` shows those there are.", code="key_not_found")
    return key


async def rotate(session: AsyncSession, key_id: str, grace: str, actor: str) -> tuple[ApiKey, str]:
    """A new secret for a key, at once; the old one works until the grace is over."""
    seconds = seconds_of(grace, "grace")
    if seconds > LONGEST_GRACE_SECONDS:
        raise InvalidRequest("`grace` is at most 30d; the old secret should not live on.", param="grace")
    key = await find_by_id(session, key_id)
    state = state_of(key, time.time())
    if state != "active":
        raise Conflict(f"The key `{key_id}` is {state}; make another with `alignway keys create`.", code="key_ended")
    before = _audited(key)
    secret = await keys.rotate_key(session, key, seconds)
    await write_audit(session, actor=actor, action="key.rotated", subject=key.id, before=before, after=_audited(key))
    return key, secret


async def revoke(session: AsyncSession, key_id: str, actor: str) -> ApiKey:
    """Turn a key off for good, with the secret it had before its last rotation."""
    key = await find_by_id(session, key_id)
    before = _audited(key)
    await keys.revoke_key(session, key_id)
    await write_audit(session, actor=actor, action="key.revoked", subject=key.id, before=before, after=_audited(key))
    return key


def state_of(key: ApiKey, now: float) -> str:
    """`active`, `expired` or `revoked`."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def key_view(key: ApiKey, now: float) -> dict[str, Any]:
    """A key as people and programs see it; never its secret."""
    names = (
        "id",
        "name",
        "project_id",
        "scopes",
        "requests_per_minute",
        "tokens_per_minute",
        "streams",
        "images",
        "train",
    )
    view = {name: getattr(key, name) for name in names}
    view |= {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at")}
    in_grace = key.previous_expires_at is not None and key.previous_expires_at > now
    view["previous_secret_works_until"] = key.previous_expires_at if in_grace else None
    return view | {"state": state_of(key, now)}


def _audited(key: ApiKey) -> dict[str, Any]:
    """A key as the audit keeps it: by its id it is known, so neither that nor when it was made is said again."""
    view = key_view(key, time.time())
    return {name: value for name, value in view.items() if name not in ("id", "created_at")}


def moment(at: float) -> str:
    """A moment as people read it, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _expiry(expires_in: str | None, expires_at: float | None) -> float | None:
    now = time.time()
    if expires_in is not None and expires_at is not None:
        raise InvalidRequest("Give `expires_in` or `expires_at`, not both.", param="expires_at")
    if expires_in is not None:
        left = seconds_of(expires_in, "expires_in")
        if not 0 < left <= LONGEST_SECONDS:
            raise InvalidRequest(
                "`expires_in` is from 1s to 3650d; leave it out for a key without end.", param="expires_in"
            )
        return now + left
    if expires_at is not None and not now < expires_at <= now + LONGEST_SECONDS:
        raise InvalidRequest(
            f"`expires_at` is a time to come, in seconds since 1970 (UTC), within ten years. Now it is {int(now)}.",
            param="expires_at",
        )
    return expires_at
