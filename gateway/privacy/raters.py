"""Raters as operators see them, and what they decide: to hold somebody's votes, to trust somebody, a note."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import NotFound
from gateway.storage import raters as rows
from gateway.storage.audit import write_audit
from gateway.storage.privacy_tables import RaterRow


class RaterNotFound(NotFound):
    """Nobody of this hash has voted."""

    code = "rater_not_found"

    def __init__(self, id_hash: str) -> None:
        super().__init__(f"No rater `{id_hash}` has voted. GET /admin/v1/raters lists those who did.")


@dataclass(frozen=True)
class Decision:
    """What to change about a rater; None: leave it."""

    blocked: bool | None = None
    trusted: bool | None = None
    note: str | None = None


async def list_raters(session: AsyncSession, after: str, limit: int) -> list[dict[str, Any]]:
    """A page of raters by hash."""
    page = await rows.page_of_raters(session, after, limit)
    return await _views(session, list(page))


async def show_rater(session: AsyncSession, id_hash: str) -> dict[str, Any]:
    """One rater. Raises `RaterNotFound`."""
    views = [] if "\0" in id_hash else await _views(session, [id_hash])
    if not views:
        raise RaterNotFound(id_hash)
    return views[0]


async def decide(session: AsyncSession, id_hash: str, decision: Decision, actor: str) -> dict[str, Any]:
    """Change what holds for a rater, votes already given included. Raises `RaterNotFound`."""
    before = await show_rater(session, id_hash)
    row = await session.get(RaterRow, (before["project"], id_hash), with_for_update=True)
    if row is None:
        row = RaterRow(project_id=before["project"], id_hash=id_hash, blocked=False, trusted=False, note="")
        session.add(row)
    was_blocked = row.blocked
    for name in ("blocked", "trusted", "note"):
        if (value := getattr(decision, name)) is not None:
            setattr(row, name, value)
    row.updated_at, row.updated_by = time.time(), actor
    await session.flush()
    if row.blocked != was_blocked:
        await (rows.hold_votes if row.blocked else rows.release_votes)(session, id_hash)
    after = await show_rater(session, id_hash)
    changed = [name for name in ("blocked", "trusted", "note") if before[name] != after[name]]
    await write_audit(
        session,
        actor=actor,
        action="rater.decided",
        subject=id_hash,
        before={name: before[name] for name in changed if name != "note"},
        after={name: after[name] for name in changed if name != "note"},
    )
    return after


async def _views(session: AsyncSession, hashes: list[str]) -> list[dict[str, Any]]:
    decided = await rows.decisions_on(session, hashes)
    return [_view(figures, decided.get(figures.id_hash)) for figures in await rows.figures_of(session, hashes)]


def _view(figures: rows.RaterFigures, decided: RaterRow | None) -> dict[str, Any]:
    return {
        "id": figures.id_hash,
        "object": "rater",
        "project": figures.project_id,
        "kinds": sorted(figures.kinds),
        "votes": figures.votes,
        "first_vote_at": int(figures.first_vote_at),
        "last_vote_at": int(figures.last_vote_at),
        "pairs": figures.pairs,
        "blocked": decided is not None and decided.blocked,
        "trusted": decided is not None and decided.trusted,
        "note": "" if decided is None else decided.note,
    }
