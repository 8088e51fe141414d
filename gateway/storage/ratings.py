"""What was said of one prompt before: the pairs a rater made of it, ratings to pair with, ratings that stand alone."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.pair import RaterKind
from gateway.storage.among import among
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.tables import ApiKey
from gateway.storage.upsert import plain_table

LIMITED_TYPES = ("preference", "ranking", "rating")
RATINGS_AT_A_TIME = 1000
UNFINISHED = ("length", "content_filter")
"""Why an answer ended that teaches nothing good."""
_RATING, _COMPLETION, _PAIR = (plain_table(table).c for table in (Feedback, Completion, PairRow))
_RATED = (
    _RATING.id, _RATING.project_id, _RATING.key_id, _RATING.prompt_hash, _RATING.rater_hash, _RATING.rater_kind,
    _RATING.rater_trusted, _RATING.leaning, cast(_RATING.body, Text).label("body"), _RATING.updated_at,
)  # fmt: skip
_ANSWER = (
    *(_COMPLETION.id, _COMPLETION.key_id, _COMPLETION.status, _COMPLETION.release_id),
    *(cast(_COMPLETION[name], Text).label(name) for name in ("messages", "parameters", "choices")),
)
_read = msgspec.json.decode
"""JSON that is read here and not by SQLAlchemy takes a quarter of the time."""
# Materialised: a subquery that is flattened may be gone through in another order. What is looked for next in the same
# transaction is planned anew: a plan that was made while the tables were small reads them whole, and would be kept.
LOCK = (
    "WITH wanted AS MATERIALIZED (SELECT DISTINCT hashtextextended(name, 0) AS number "
    "FROM unnest($1::text[]) AS name ORDER BY number) "
    "SELECT count(pg_advisory_xact_lock(number)), set_config('plan_cache_mode', 'force_custom_plan', true) FROM wanted"
)


class UnpairedRating(NamedTuple):
    """An answer that somebody found good or bad, without another to compare it with."""

    feedback_id: str
    project_id: str
    prompt: Sequence[dict[str, Any]]
    """Messages as they are stored."""
    tools: Sequence[dict[str, Any]]
    prompt_hash: str
    message: dict[str, Any]
    """The answer."""
    completion_id: str
    choice: int
    """Which one of the completion."""
    release_id: str
    up: bool
    rater_hash: str
    rater_kind: RaterKind
    rater_trusted: bool
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


async def unpaired_ratings(
    session: AsyncSession, alias: str, project_id: str
) -> AsyncGenerator[list[UnpairedRating], None]:
    """Every thumb up or down of a project on an alias that is part of no eligible pair, oldest first, many at a time.

    Those whose completion was deleted, or did not end by itself, are left out: there is nothing to learn from. So are
    those that a key with `train = false` has part in.
    """
    paired = await _paired(session, alias, project_id)
    forbidding = set(await session.scalars(select(ApiKey.id).where(ApiKey.train.is_(False))))
    rated = select(*_RATED).where(
        _RATING.project_id == project_id,
        _RATING.alias == alias,
        _RATING.type == "rating",
        _RATING.status == "active",
        _RATING.leaning.is_not(None),
    )
    by_age = rated.order_by(_RATING.created_at, _RATING.id).execution_options(yield_per=RATINGS_AT_A_TIME)
    async for rows in (await session.stream(by_age)).partitions():
        waiting = [row for row in rows if row.id not in paired and row.key_id not in forbidding]
        targets = [_read(row.body)["target"] for row in waiting]
        wanted = list({target["completion_id"] for target in targets})
        answers = await session.execute(select(*_ANSWER).where(among(session, _COMPLETION.id, wanted)))
        completions = {one.id: one for one in answers if one.key_id not in forbidding}
        about = (
            (row, target, completions.get(target["completion_id"]))
            for row, target in zip(waiting, targets, strict=True)
        )
        yield [rating for one in about if (rating := _unpaired(*one)) is not None]


async def _paired(session: AsyncSession, alias: str, project_id: str) -> set[str]:
    """The ratings that are part of an eligible pair. They are looked up first: of a million pairs, few are of them."""
    rating = (_RATING.project_id == project_id, _RATING.type == "rating")
    ratings = (await session.scalars(select(_RATING.id).where(*rating))).all()
    found: set[str] = set()
    for begin in range(0, len(ratings), RATINGS_AT_A_TIME):
        theirs = among(session, _PAIR.feedback_id, ratings[begin : begin + RATINGS_AT_A_TIME])
        # By the vote alone: asked for the alias and state as well, SQLite goes through all pairs of the alias.
        rows = await session.execute(select(_PAIR.alias, _PAIR.state, _PAIR.body["feedback_ids"]).where(theirs))
        found.update(*(votes for of, state, votes in rows if (of, state) == (alias, "eligible")))
    return found


def _unpaired(row: Any, target: dict[str, Any], completion: Any) -> UnpairedRating | None:
    """`row` has the columns of `_RATED`, `completion` those of `_ANSWER`, if it is there."""
    if completion is None or completion.status != "finished" or row.prompt_hash is None:
        return None
    choice = next((choice for choice in _read(completion.choices) if choice["index"] == target["index"]), None)
    if choice is None or choice["finish_reason"] in UNFINISHED:
        return None
    return UnpairedRating(
        feedback_id=row.id,
        project_id=row.project_id,
        prompt=_read(completion.messages),
        tools=_read(completion.parameters).get("tools") or (),
        prompt_hash=row.prompt_hash,
        message=choice["message"],
        completion_id=completion.id,
        choice=target["index"],
        release_id=completion.release_id,
        up=row.leaning == "up",
        rater_hash=row.rater_hash,
        rater_kind=row.rater_kind,
        rater_trusted=row.rater_trusted,
        judged_at=row.updated_at,
    )


def _same_prompt(feedback: Feedback) -> tuple[Any, ...]:
    return Feedback.project_id == feedback.project_id, Feedback.prompt_hash == feedback.prompt_hash
