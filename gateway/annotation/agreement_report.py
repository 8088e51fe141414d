"""How far the people who compare answers of an alias agree, read from their votes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.agreement import (
    Ballots,
    Estimate,
    cohen_kappa,
    common_votes,
    estimate,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
    votes_of,
)
from gateway.annotation.items import BOTH_BAD, FIRST, TIE
from gateway.storage.annotation_tables import AnnotationBallot
from gateway.storage.ballots import newest_ballots
from gateway.storage.database import Database

PEOPLE = ("end_user", "annotator")
NEWEST_BALLOTS = 20_000
NEWEST_ITEMS = 2000
"""A report is about this many of the items judged last by two people or more."""
COMMON_ITEMS = 20
"""Two raters with fewer items in common are not compared."""
RATER_PAIRS = 50
WARN_BELOW = 0.4
"""Alpha at which the guideline, not the raters, should be looked at."""


async def agreement_ballots(session: AsyncSession, alias: str) -> dict[str, dict[str, str]]:
    """Item -> rater -> `left`, `right` or `tie`: the newest items of an alias that two people or more judged."""
    return coded(await newest_ballots(session, alias, PEOPLE, NEWEST_BALLOTS))


def coded(ballots: Sequence[AnnotationBallot]) -> dict[str, dict[str, str]]:
    """Ballots, newest first, as categories relative to the item's own order of sides, which is random. Pure.

    Of two answers that are both bad none is preferred, so that counts as a tie here.
    """
    found: dict[str, dict[str, str]] = {}
    for ballot in ballots:
        category = TIE if ballot.verdict in (TIE, BOTH_BAD) else "left" if ballot.verdict == FIRST else "right"
        found.setdefault(ballot.item, {}).setdefault(ballot.rater_hash, category)
    judged = [(item, votes) for item, votes in found.items() if len(votes) > 1]
    return dict(judged[:NEWEST_ITEMS])


async def agreement_of(database: Database, alias: str) -> dict[str, Any]:
    """For the card of a data set: how far its raters agree, as far as that is known."""
    async with database.read() as session:
        report = agreement_report(alias, await agreement_ballots(session, alias))
    named = ("items", "raters", "raw_agreement", "krippendorff_alpha", "fleiss_kappa", "warning")
    return {"agreement": {name: report[name] for name in named}}


def agreement_report(alias: str, ballots: Ballots, *, seed: int = 0) -> dict[str, Any]:
    """All statistics over `ballots`, for an operator and for cards. Pure, and slow: up to some seconds of work."""
    items = votes_of(ballots)
    alpha = estimate(krippendorff_alpha, items, seed=seed)
    pairs = list(common_votes(ballots, COMMON_ITEMS).items())
    pairs.sort(key=lambda pair: -len(pair[1]))
    return {
        "object": "agreement",
        "alias": alias,
        "items": len(items),
        "raters": len({rater for votes in ballots.values() for rater in votes}),
        "raw_agreement": _view(estimate(raw_agreement, items, seed=seed)),
        "krippendorff_alpha": _view(alpha),
        "fleiss_kappa": _view(estimate(fleiss_kappa, items, seed=seed)),
        "cohen_kappa": [
            {"raters": list(raters)} | (_view(estimate(cohen_kappa, votes, seed=seed)) or {"items": len(votes)})
            for raters, votes in pairs[:RATER_PAIRS]
        ],
        "warning": None if alpha is None or alpha.value >= WARN_BELOW else _warning(alpha),
    }


def _view(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    rounded = {
        name: round(value, 4) for name, value in (("value", found.value), ("low", found.low), ("high", found.high))
    }
    return rounded | {"items": found.items}


def _warning(alpha: Estimate) -> str:
    return (
        f"alpha {alpha.value:.2f} is below {WARN_BELOW}: raters read the question differently. Look at "
        "`annotation.guideline` and at the tasks that were contested."
    )
