"""Projects, keys and the root secret as rows."""

import hashlib
import secrets
import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.storage.tables import ApiKey, Project, Secret

DEFAULT_PROJECT = "default"
ROOT_SECRET = "root"


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
    session: AsyncSession, project_id: str, name: str, scopes: Sequence[str], secret: str | None = None
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is not kept and cannot be shown again."""
    secret = secret or "sk-" + secrets.token_urlsafe(32)
    key = ApiKey(
        id=ids.mint(ids.KEY),
        project_id=project_id,
        name=name,
        secret_sha256=sha256_of(secret),
        scopes=list(scopes),
        created_at=time.time(),
    )
    session.add(key)
    await session.flush()
    return key, secret


async def find_key(session: AsyncSession, secret: str) -> ApiKey | None:
    """The key with this secret, revoked and expired ones too."""
    return await session.scalar(select(ApiKey).where(ApiKey.secret_sha256 == sha256_of(secret)))


async def list_keys(session: AsyncSession) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    return (await session.scalars(select(ApiKey).order_by(ApiKey.created_at))).all()


async def revoke_key(session: AsyncSession, key_id: str) -> bool:
    """Turn a key off for good; False if there is none of that id."""
    key = await session.get(ApiKey, key_id)
    if key is None:
        return False
    key.revoked_at = key.revoked_at or time.time()
    return True
