"""What operators may do with cases: add, list, remove. Each change is written into the audit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.case import CaseBody
from gateway.errors import InvalidRequest, NotFound
from gateway.rollout.promotion import find_trainable
from gateway.storage.audit import write_audit
from gateway.storage.gate_cases import add_cases, remove_case
from gateway.storage.gate_tables import GateCase
from gateway.wire.json_body import reason_of

_SHOWN_PROBLEMS = 5


def read_cases(path: Path) -> list[CaseBody]:
    """The cases of a JSON Lines file, all or none: `InvalidRequest` names the first bad lines and what is wrong."""
    cases, problems = [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            cases.append(CaseBody.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            problems.append(f"line {number}: {place + ': ' if place else ''}{reason_of(first)}")
        except ValueError as error:
            problems.append(f"line {number}: no JSON: {error}")
    if problems:
        raise InvalidRequest(f"{path}: mend these lines; nothing was added: {'; '.join(problems[:_SHOWN_PROBLEMS])}")
    if not cases:
        raise InvalidRequest(f"{path} holds no case; give a JSON object on each line (docs/gates.md).")
    return cases


async def keep_cases(
    session: AsyncSession, alias: str, cases: Sequence[CaseBody], actor: str, now: float
) -> list[GateCase]:
    """Keep cases; the next candidate of the alias is held to them."""
    found = await find_trainable(session, alias)
    rows = await add_cases(session, found.name, cases, actor, now)
    for row in rows:
        await write_audit(
            session, actor=actor, action="gate_case.added", subject=row.id, before=None, after={"alias": row.alias}
        )
    return rows


async def drop_case(session: AsyncSession, case_id: str, actor: str) -> dict[str, Any]:
    """Keep a case no more. Raises `NotFound`."""
    if not await remove_case(session, case_id):
        raise NotFound(
            f"There is no case `{case_id}`. `alignway gates list` shows those there are.", code="case_not_found"
        )
    await write_audit(session, actor=actor, action="gate_case.removed", subject=case_id, before={}, after=None)
    return {"id": case_id, "object": "gate.case", "deleted": True}


def case_view(row: GateCase) -> dict[str, Any]:
    """A case as operators see it."""
    head = {"id": row.id, "object": "gate.case", "alias": row.alias}
    return head | row.body | {"created_at": int(row.created_at)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
