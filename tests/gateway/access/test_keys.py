"""Keys: expiry, rotation, revocation, and how soon each is felt."""

import time
from collections.abc import Sequence

import pytest

from gateway.access import authenticate, issue
from gateway.access.authenticate import Authenticator
from gateway.access.caller import SCOPES, KeyLimits
from gateway.errors import Conflict, InvalidRequest, NotAuthenticated, NotFound
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.keys import KeyTerms
from gateway.storage.tables import ApiKey


class Clock:
    """Stands for the `time` module where keys are looked up and remembered."""

    def __init__(self) -> None:
        self.moved = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.moved

    def time(self) -> float:
        return time.time() + self.moved


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(authenticate, "time", clock)
    return clock


async def new_key(
    database: Database, terms: KeyTerms | None = None, scopes: Sequence[str] = ("inference",)
) -> tuple[ApiKey, str]:
    async with database.write() as session:
        return await issue.issue_key(session, "default", "test", scopes, terms or KeyTerms(), "key_admin")


async def refused(door: Authenticator, secret: str) -> bool:
    if door.remembered(f"Bearer {secret}") is not None:
        return False
    try:
        await door.authenticate(f"Bearer {secret}")
    except NotAuthenticated:
        return True
    return False


async def test_a_key_is_remembered_by_its_header_and_carries_its_terms(database: Database) -> None:
    terms = KeyTerms(requests_per_minute=60, streams=4, images=True)
    key, secret = await new_key(database, terms)
    door = Authenticator(database)
    header = f"Bearer {secret}"
    assert door.remembered(header) is None
    caller = await door.authenticate(f"bearer   {secret} ")
    assert door.remembered(header) is caller
    assert (caller.key_id, caller.limits, caller.images) == (key.id, KeyLimits(60, None, 4), True)
    for other in (None, "", "Bearer", secret, header + "x", "Bearer sk-wrong"):
        assert door.remembered(other) is None


async def test_a_remembered_key_is_forgotten_within_a_second_of_its_revocation(
    database: Database, clock: Clock
) -> None:
    key, secret = await new_key(database)
    door = Authenticator(database)
    await door.authenticate(f"Bearer {secret}")
    async with database.write() as session:
        await issue.revoke(session, key.id, "key_admin")
    clock.moved = 0.99
    assert door.remembered(f"Bearer {secret}") is None
    assert await refused(door, secret)


async def test_a_key_stops_at_its_expiry_even_while_it_is_remembered(database: Database, clock: Clock) -> None:
    _, secret = await new_key(database, KeyTerms(expires_at=time.time() + 0.5))
    door = Authenticator(database)
    assert not await refused(door, secret)
    clock.moved = 0.51
    assert door.remembered(f"Bearer {secret}") is None
    assert await refused(door, secret)


async def test_rotation_gives_a_new_secret_at_once_and_ends_the_old_one_after_the_grace(
    database: Database, clock: Clock
) -> None:
    key, old = await new_key(database)
    door = Authenticator(database)
    async with database.write() as session:
        rotated, new = await issue.rotate(session, key.id, "60s", "key_admin")
    assert rotated.id == key.id
    assert not await refused(door, new)
    assert not await refused(door, old)
    clock.moved = 59.0
    assert not await refused(door, old)
    clock.moved = 60.5
    assert await refused(door, old)
    assert not await refused(door, new)


async def test_a_second_rotation_ends_the_secret_before_the_last(database: Database) -> None:
    key, first = await new_key(database)
    async with database.write() as session:
        _, second = await issue.rotate(session, key.id, "1h", "key_admin")
    async with database.write() as session:
        _, third = await issue.rotate(session, key.id, "1h", "key_admin")
    door = Authenticator(database)
    assert [await refused(door, secret) for secret in (first, second, third)] == [True, False, False]


async def test_no_grace_outlives_the_key(database: Database, clock: Clock) -> None:
    key, old = await new_key(database, KeyTerms(expires_at=time.time() + 30))
    async with database.write() as session:
        _, new = await issue.rotate(session, key.id, "1h", "key_admin")
    door = Authenticator(database)
    clock.moved = 31.0
    assert await refused(door, old)
    assert await refused(door, new)


async def test_revoking_ends_both_secrets_of_a_rotated_key(database: Database) -> None:
    key, old = await new_key(database)
    async with database.write() as session:
        _, new = await issue.rotate(session, key.id, "1h", "key_admin")
    async with database.write() as session:
        await issue.revoke(session, key.id, "key_admin")
    door = Authenticator(database)
    assert await refused(door, old)
    assert await refused(door, new)


async def test_only_digests_of_secrets_are_kept(database: Database) -> None:
    key, old = await new_key(database)
    async with database.write() as session:
        _, new = await issue.rotate(session, key.id, "1h", "key_admin")
    async with database.read() as session:
        row = await session.get_one(ApiKey, key.id)
        kept = [str(getattr(row, column.name)) for column in ApiKey.__table__.columns]
    assert not any(secret[3:] in value for secret in (old, new) for value in kept)
    assert keys.sha256_of(new) in kept


async def test_an_ended_key_cannot_be_rotated_and_an_unknown_one_is_not_found(database: Database) -> None:
    key, _ = await new_key(database)
    async with database.write() as session:
        await issue.revoke(session, key.id, "key_admin")
        with pytest.raises(Conflict, match="revoked"):
            await issue.rotate(session, key.id, "1h", "key_admin")
        with pytest.raises(NotFound, match="alignway keys list"):
            await issue.rotate(session, "key_nobody", "1h", "key_admin")
        with pytest.raises(InvalidRequest, match="30d"):
            await issue.rotate(session, key.id, "31d", "key_admin")


@pytest.mark.parametrize(
    ("expires_in", "expires_at", "param"),
    [
        ("yesterday", None, "expires_in"),
        ("-5d", None, "expires_in"),
        ("0s", None, "expires_in"),
        ("99999d", None, "expires_in"),
        ("1.5h", None, "expires_in"),
        (None, 1_000_000_000.0, "expires_at"),
        (None, float("nan"), "expires_at"),
        (None, 1e300, "expires_at"),
        ("1h", 4e9, "expires_at"),
    ],
)
def test_an_impossible_expiry_is_named(expires_in: str | None, expires_at: float | None, param: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        issue.checked_terms(expires_in, expires_at, KeyLimits(), False)
    assert wrong.value.param == param


def test_expiries_are_counted_from_now() -> None:
    expires_at = issue.checked_terms("30d", None, KeyLimits(), False).expires_at
    assert expires_at is not None
    assert abs(expires_at - time.time() - 30 * 86400) < 5


@pytest.mark.parametrize("limits", [KeyLimits(0), KeyLimits(None, -1), KeyLimits(None, None, 10**13)])
def test_an_impossible_limit_is_named(limits: KeyLimits) -> None:
    with pytest.raises(InvalidRequest, match="whole number"):
        issue.checked_terms(None, None, limits, False)


def test_scopes_are_checked() -> None:
    assert issue.checked_scopes([" inference", "feedback", "inference"]) == ["inference", "feedback"]
    assert issue.checked_scopes(SCOPES) == list(SCOPES)
    for wrong in (["everything"], [], [""]):
        with pytest.raises(InvalidRequest) as refusal:
            issue.checked_scopes(wrong)
        assert refusal.value.param == "scopes"
