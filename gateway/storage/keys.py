"""Projects, keys and the root secret as rows."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.storage.tables import ApiKey, Project, Secret

DEFAULT_PROJECT = "default"
ROOT_SECRET = "root"


@dataclass(frozen=True)
class KeyTerms:
    """What a key may use, and until when; None: no limit of its own."""

    expires_at: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None
    images: bool = False
    train: bool = True
    """Whether its completions and votes may make pairs."""


def sha256_of(secret: str) -> str:
    """What is kept of a key. Keys are random or long, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def ensure_project(session: AsyncSession, name: str = DEFAULT_PROJECT) -> Project:
    """The project of that name, made if need be."""
    project = await session.scalar(select(Project).where(Project.name == name))
    if project is None:
        project = Project(id=ids.mint(ids.PROJECT), name=name, created_at=time.time())
        session.add(project)
        await session.flush()
    return project


async def ensure_root_secret(session: AsyncSession) -> str:
    """The root secret, minted on first use."""
    row = await session.get(Secret, ROOT_SECRET)
    if row is None:
        row = Secret(name=ROOT_SECRET, value=secrets.token_hex(32))
        session.add(row)
        await session.flush()
    return row.value


async def create_key(
    session: AsyncSession,
    project_id: str,
    name: str,
    scopes: Sequence[str],
    secret: str | None = None,
    terms: KeyTerms | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is not kept and cannot be shown again."""
    secret = secret or new_secret()
    key = ApiKey(
        id=ids.mint(ids.KEY),
        project_id=project_id,
        name=name,
        secret_sha256=sha256_of(secret),
        scopes=list(scopes),
        created_at=time.time(),
        **asdict(terms or KeyTerms()),
    )
    session.add(key)
    await session.flush()
    return key, secret


def new_secret() -> str:
    """256 random bits in the spelling of an API key."""
    return "sk-" + secrets.token_urlsafe(32)


GLANCE = select(ApiKey).where(
    or_(ApiKey.secret_sha256 == bindparam("digest"), ApiKey.previous_sha256 == bindparam("digest"))
)
"""The row `find_key` looks at."""


async def find_key(session: AsyncSession, secret: str) -> ApiKey | None:
    """The key with this secret, or that had it before its last rotation; revoked and expired ones too.

    The index finds a digest, about which a clock tells nothing of the secret; it is then compared in constant time.
    """
    digest = sha256_of(secret)
    found = await session.scalars(
        select(ApiKey).where(or_(ApiKey.secret_sha256 == digest, ApiKey.previous_sha256 == digest))
    )
    return next((key for key in found if _is_secret_of(key, digest)), None)


def expiry_of(key: ApiKey, secret: str) -> float | None:
    """When this secret of the key stops working: with the key, or with the grace after a rotation if that is sooner."""
    if hmac.compare_digest(key.secret_sha256, sha256_of(secret)):
        return key.expires_at
    ends = [at for at in (key.expires_at, key.previous_expires_at) if at is not None]
    return min(ends, default=0.0)


def _is_secret_of(key: ApiKey, digest: str) -> bool:
    current = hmac.compare_digest(key.secret_sha256, digest)
    return hmac.compare_digest(key.previous_sha256 or "", digest) or current


async def rotate_key(session: AsyncSession, key: ApiKey, grace_seconds: float) -> str:
    """Give the key a new secret, returned once; the one before works for the grace, any older one no more."""
    secret = new_secret()
    key.previous_sha256, key.previous_expires_at = key.secret_sha256, time.time() + grace_seconds
    key.secret_sha256 = sha256_of(secret)
    await session.flush()
    return secret


async def list_keys(session: AsyncSession) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    return (await session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))).all()


async def revoke_key(session: AsyncSession, key_id: str) -> bool:
    """Turn a key off for good; False if there is none of that id."""
    key = await session.get(ApiKey, key_id)
    if key is None:
        return False
    key.revoked_at = key.revoked_at or time.time()
    return True
