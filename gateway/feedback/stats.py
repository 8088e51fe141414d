"""What feedback there is, in counts, as `alignway feedback stats` shows it."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage import feedback_stats as counts

Rows = list[dict[str, Any]]


FeedbackStats = dict[str, Rows]
"""Tables by name (votes, pairs, raters, sources, votes_by_day): what is counted, and how many."""


async def feedback_stats(session: AsyncSession, alias: str | None, since: float) -> FeedbackStats:
    """Counts over everything; by day from `since` (unix seconds) on. None as an alias: all of them."""
    return {
        "votes": _rows(await counts.count_votes(session, alias), "type", "status", "votes"),
        "pairs": _rows(await counts.count_pairs_by_state(session, alias), "state", "reason", "pairs"),
        "raters": _rows(await counts.count_raters(session, alias), "kind", "raters"),
        "sources": _rows(await counts.count_sources(session, alias), "source", "licence", "eligible_pairs"),
        "votes_by_day": _rows(await counts.count_days(session, alias, since - since % 86400), "day", "votes"),
    }


def _rows(found: counts.Counts, *names: str) -> Rows:
    return [dict(zip(names, row, strict=True)) for row in found]
