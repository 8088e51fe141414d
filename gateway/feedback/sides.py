"""Settles the sides of many prompts with few statements, as `capture` does for one."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.feedback.split import holdout_share, split_side
from gateway.settings import FeedbackSettings
from gateway.storage import pairs as rows


async def settle_sides(
    session: AsyncSession,
    settings: FeedbackSettings,
    key: bytes,
    prompts: Iterable[tuple[str, str]],
    *,
    started: set[str],
) -> None:
    """Settle the side of each (alias, prompt hash) that has none yet.

    `started` remembers the aliases that have enough pairs held out, so that these are not counted again.
    """
    by_alias: dict[str, set[str]] = {}
    for alias, prompt_hash in prompts:
        by_alias.setdefault(alias, set()).add(prompt_hash)
    start = settings.holdout_start_pairs
    for alias, hashes in by_alias.items():
        held_out = start if alias in started else await rows.count_held_out(session, alias, at_most=start)
        if held_out >= start:
            started.add(alias)
        share = holdout_share(
            held_out,
            start_pairs=start,
            start_share=settings.holdout_start_share,
            share=settings.holdout_share,
        )
        sides = [(prompt_hash, split_side(key, alias, prompt_hash, share)) for prompt_hash in sorted(hashes)]
        await rows.settle_sides(session, alias, sides)
