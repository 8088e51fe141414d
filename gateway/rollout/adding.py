"""Registers another base model as a release of an alias, so that it is promoted and rolled back like any other.

An exchange replaces weights alone: what an engine keeps, the architecture and the tokenizer, must be the same. Its
quality was not measured here, and the release says so as a warning, for which a person gives the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.adapter_check import BadAdapter, check_weights, is_tokenizer
from gateway.contracts.release import BaseModelRef, GateResult
from gateway.contracts.seal import file_sha256
from gateway.contracts.tensor_file import read_tensors
from gateway.errors import Conflict, InvalidRequest
from gateway.rollout.promotion import find_trainable
from gateway.storage.audit import write_audit
from gateway.storage.tables import ReleaseRow

TEMPLATES = ("chat_template", "tokenizer_config.")
"""Files that say how messages are written down; a tokenizer may stay the same under another template."""


@dataclass(frozen=True)
class NewBase:
    """A model on this machine that is to become a release of `alias`."""

    alias: str
    folder: Path
    reference: BaseModelRef
    reason: str
    actor: str


async def add_base(session: AsyncSession, new: NewBase, now: float) -> ReleaseRow:
    """Make the release. Raises `NotFound`, `Conflict` or `InvalidRequest`, each saying what to do."""
    if not new.reason.strip():
        raise InvalidRequest(
            "Its quality is not measured here: say in `--reason` why it may serve.",
            param="reason",
            code="reason_required",
        )
    alias = await find_trainable(session, new.alias, locked=True)
    known = (await session.scalars(select(ReleaseRow).where(ReleaseRow.alias == alias.name))).all()
    sha256 = new.reference.weights_sha256
    for row in known:
        if row.kind == "base" and row.manifest["base"]["weights_sha256"] == sha256:
            raise Conflict(f"These weights are {row.name} already.", code="already_added")
    base = await session.get_one(ReleaseRow, alias.base_release_id)
    gates = examine(new, Path(base.location) if base.location else None)
    row = ReleaseRow(
        id=ids.mint(ids.RELEASE),
        alias=alias.name,
        name=await _name(session, alias.name, now),
        kind="base",
        state="published",
        parent_id=alias.serving_release_id,
        location=str(new.folder),
        manifest={
            "base": new.reference.model_dump(),
            "added_because": new.reason,
            "gates": [gate.model_dump() for gate in gates],
        },
        created_at=now,
    )
    session.add(row)
    after: Mapping[str, Any] = {"name": row.name, "model": new.reference.model, "reason": new.reason}
    await write_audit(session, actor=new.actor, action="release.added", subject=row.id, after=after)
    await session.flush()
    return row


def examine(new: NewBase, base_folder: Path | None) -> tuple[GateResult, ...]:
    """What was looked at, and what was not. Raises `InvalidRequest` for a model that an engine could not change to."""
    try:
        check_weights(new.folder, links_allowed=True)
    except BadAdapter as error:
        raise InvalidRequest(f"{new.folder} cannot be served: {error}", param="model", code="model_refused") from error
    gates = [_gate("harmless", "pass", "safetensors alone, whole, and no code")]
    if base_folder is not None and base_folder.is_dir():
        _check_tensors(new.folder, base_folder)
        _check_tokenizer(new.folder, base_folder)
        gates.append(_gate("fits", "pass", "tensors and tokenizer are those of the base model's architecture"))
        if _digests(new.folder, template=True) != _digests(base_folder, template=True):
            gates.append(_gate("chat_template", "warn", "its chat template differs; engines take it when they restart"))
    gates.append(_gate("quality", "warn", f"not measured, added by hand: {new.reason}"))
    return tuple(gates)


def _gate(name: str, verdict: Any, reason: str) -> GateResult:
    return GateResult(gate=name, verdict=verdict, value=0.0, limit=0.0, reason=reason)


def _check_tensors(folder: Path, base_folder: Path) -> None:
    found, wanted = _shapes(folder), _shapes(base_folder)
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        raise InvalidRequest(
            f"It is of another architecture than the alias's base: {len(differing)} tensors differ, {differing[0]} for "
            "one. Weights are exchanged in running engines: serve it under an alias of its own ([[models]]).",
            param="model",
            code="model_does_not_fit",
        )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: one.shape for path in files for name, one in read_tensors(path, strict=False).items()}


def _check_tokenizer(folder: Path, base_folder: Path) -> None:
    found, wanted = _digests(folder, template=False), _digests(base_folder, template=False)
    if found != wanted:
        name = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))[0]
        raise InvalidRequest(
            f"Its tokenizer is not that of the alias's base ({name} differs), and engines keep theirs when weights are "
            "exchanged: serve it under an alias of its own ([[models]]).",
            param="model",
            code="model_does_not_fit",
        )


def _digests(folder: Path, template: bool) -> dict[str, str]:
    """Checksums of the tokenizer's files, or of those that hold the chat template."""
    names = (path for path in folder.iterdir() if path.is_file() and is_tokenizer(path.name))
    return {path.name: file_sha256(path) for path in names if path.name.startswith(TEMPLATES) == template}


async def _name(session: AsyncSession, alias: str, now: float) -> str:
    prefix = f"{alias}-{datetime.fromtimestamp(now, UTC):%Y%m%d}-base"
    made = ReleaseRow.name.startswith(prefix, autoescape=True)
    return f"{prefix}{(await session.scalar(select(func.count()).select_from(ReleaseRow).where(made)) or 0) + 1}"
