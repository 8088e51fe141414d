"""What was said of one prompt before: the pairs a rater made of it, ratings to pair with, ratings that stand alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.message import Message
from gateway.contracts.pair import Rater, RaterKind, Side
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.tables import ApiKey

LIMITED_TYPES = ("preference", "ranking", "rating")
COMPLETIONS_AT_ONCE = 500
UNFINISHED = ("length", "content_filter")
"""Why an answer ended that teaches nothing good."""
# Materialised: a subquery that is flattened may be gone through in another order. What is looked for next in the same
# transaction is planned anew: a plan that was made while the tables were small reads them whole, and would be kept.
LOCK = (
    "WITH wanted AS MATERIALIZED (SELECT DISTINCT hashtextextended(name, 0) AS number "
    "FROM unnest($1::text[]) AS name ORDER BY number) "
    "SELECT count(pg_advisory_xact_lock(number)), set_config('plan_cache_mode', 'force_custom_plan', true) FROM wanted"
)


@dataclass(frozen=True)
class UnpairedRating:
    """An answer that somebody found good or bad, without another to compare it with."""

    feedback_id: str
    project_id: str
    prompt: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    prompt_hash: str
    completion: Side
    up: bool
    rater: Rater
    judged_at: float


async def lock_prompts(session: AsyncSession, names: Sequence[str]) -> None:
    """Let no two transactions derive pairs of the same rater and prompt at once: each would miss the other's rating.

    `names` are taken in one order by everybody. SQLite has one writer at a time, so nothing is to do there.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    connection = await session.connection()
    await connection.exec_driver_sql(LOCK, (list(names),))


async def count_limited_pairs(session: AsyncSession, feedback: Feedback) -> int:
    """How many eligible pairs other votes of the same rater made of the same prompt; corrections, imports apart."""
    statement = (
        select(func.count())
        .select_from(PairRow)
        .join(Feedback, Feedback.id == PairRow.feedback_id)
        .where(*_same_prompt(feedback), Feedback.rater_hash == feedback.rater_hash, Feedback.id != feedback.id)
        .where(Feedback.type.in_(LIMITED_TYPES), PairRow.state == "eligible")
    )
    return await session.scalar(statement) or 0


async def ratings_that_lean(
    session: AsyncSession, feedback: Feedback, leaning: str, *, across_raters: bool, limit: int
) -> Sequence[Feedback]:
    """Other ratings of the same prompt by the same metric that lean like this; the newest first, of one rater first."""
    statement = select(Feedback).where(
        *_same_prompt(feedback),
        Feedback.id != feedback.id,
        Feedback.alias == feedback.alias,
        Feedback.type == "rating",
        Feedback.status == "active",
        Feedback.leaning == leaning,
        Feedback.rater_kind == feedback.rater_kind,
        Feedback.body["name"].as_string() == feedback.body["name"],
    )
    own = Feedback.rater_hash == feedback.rater_hash
    if not across_raters:
        statement = statement.where(own)
    statement = statement.order_by(own.desc(), Feedback.updated_at.desc(), Feedback.id.desc())
    return (await session.scalars(statement.limit(limit))).all()


async def pairs_that_lean_on(session: AsyncSession, feedback: Feedback) -> list[PairRow]:
    """The living pairs that other ratings made together with this one."""
    statement = (
        select(PairRow)
        .join(Feedback, Feedback.id == PairRow.feedback_id)
        .where(*_same_prompt(feedback), Feedback.type == "rating", Feedback.id != feedback.id)
        .where(PairRow.state != "excluded", PairRow.body["feedback_ids"].as_string().contains(feedback.id))
    )
    return list(await session.scalars(statement))


async def unpaired_ratings(session: AsyncSession, alias: str, project_id: str) -> list[UnpairedRating]:
    """Every thumb up or down of a project on an alias that is part of no eligible pair, oldest first.

    Those whose completion was deleted, or did not end by itself, are left out: there is nothing to learn from. So are
    those that a key with `train = false` has part in.
    """
    paired = await _paired(session, alias)
    forbidding = set(await session.scalars(select(ApiKey.id).where(ApiKey.train.is_(False))))
    rated = select(Feedback).where(
        Feedback.project_id == project_id,
        Feedback.alias == alias,
        Feedback.type == "rating",
        Feedback.status == "active",
        Feedback.leaning.is_not(None),
    )
    by_age = rated.order_by(Feedback.created_at, Feedback.id)
    ratings = await session.scalars(by_age)
    waiting = [row for row in ratings if row.id not in paired and row.key_id not in forbidding]
    found: list[UnpairedRating] = []
    for start in range(0, len(waiting), COMPLETIONS_AT_ONCE):
        some = waiting[start : start + COMPLETIONS_AT_ONCE]
        wanted = {row.body["target"]["completion_id"] for row in some}
        rated_ones = await session.scalars(select(Completion).where(Completion.id.in_(wanted)))
        completions = {one.id: one for one in rated_ones if one.key_id not in forbidding}
        unpaired = (_unpaired(row, completions.get(row.body["target"]["completion_id"])) for row in some)
        found += [rating for rating in unpaired if rating is not None]
    return found


async def _paired(session: AsyncSession, alias: str) -> set[str]:
    """The ratings that are part of an eligible pair."""
    statement = (
        select(PairRow.body["feedback_ids"])
        .join(Feedback, Feedback.id == PairRow.feedback_id)
        .where(PairRow.alias == alias, PairRow.state == "eligible", Feedback.type == "rating")
    )
    return {feedback_id for feedback_ids in await session.scalars(statement) for feedback_id in feedback_ids}


def _unpaired(row: Feedback, completion: Completion | None) -> UnpairedRating | None:
    index = row.body["target"]["index"]
    choices = completion.choices if completion is not None else []
    choice = next((choice for choice in choices if choice["index"] == index), None)
    if completion is None or choice is None or row.prompt_hash is None:
        return None
    if completion.status != "finished" or choice["finish_reason"] in UNFINISHED:
        return None
    kind: RaterKind = row.rater_kind  # type: ignore[assignment]  # a column of plain text
    return UnpairedRating(
        feedback_id=row.id,
        project_id=row.project_id,
        prompt=tuple(Message.model_validate(message) for message in completion.messages),
        tools=tuple(completion.parameters.get("tools") or ()),
        prompt_hash=row.prompt_hash,
        completion=Side(
            message=Message.model_validate(choice["message"]),
            origin="model",
            completion_id=completion.id,
            index=index,
            release_id=completion.release_id,
        ),
        up=row.leaning == "up",
        rater=Rater(id_hash=row.rater_hash, kind=kind, trusted=row.rater_trusted),
        judged_at=row.updated_at,
    )


def _same_prompt(feedback: Feedback) -> tuple[Any, ...]:
    return Feedback.project_id == feedback.project_id, Feedback.prompt_hash == feedback.prompt_hash
