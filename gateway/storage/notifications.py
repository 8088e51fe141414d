"""What people are told, as rows: noted in the transaction in which it comes about, then delivered target by target.

Nobody needs to know here who is told: a notification without a target is kept to be looked at.
"""

import time
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import delete, func, insert, literal, literal_column, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.notice import Notice
from gateway.errors import NotFound
from gateway.storage.notification_tables import Delivery, Notification
from gateway.storage.upsert import plain_table

AS_IT_IS = {"synchronize_session": False}
NEW = Notification.state == literal_column("'new'")
WAITING = Delivery.state == literal_column("'waiting'")
"""Spelt out, as the indexes are made for these alone."""


async def note(session: AsyncSession, notice: Notice) -> None:
    """Have people told. What was noted before, not longer ago than the notice says, is counted and not told again."""
    now = time.time()
    since = now - notice.repeat_seconds
    known = select(func.max(Notification.id)).where(Notification.key == notice.key, Notification.created_at > since)
    again = update(Notification).where(Notification.id == await session.scalar(known))
    counted = await session.execute(again.values(times=Notification.times + 1, last_at=now), execution_options=AS_IT_IS)
    if counted.rowcount:  # type: ignore[attr-defined]
        return
    session.add(
        Notification(
            id=ids.mint(ids.NOTIFICATION),
            event=notice.event,
            alias=notice.alias,
            key=notice.key,
            feedback_id=notice.feedback_id,
            facts=dict(notice.facts),
            times=1,
            state="new",
            created_at=now,
            last_at=now,
        )
    )
    await session.flush()


async def any_new(session: AsyncSession) -> bool:
    """Whether a notification waits for its targets."""
    return await session.scalar(select(Notification.id).where(NEW).limit(1)) is not None


async def address(session: AsyncSession, targets: Mapping[str, Collection[str]], limit: int = 1000) -> None:
    """Say for new notifications whom to tell: the targets, by name, each with the events that it wants to hear of."""
    now = time.time()
    statement = select(Notification).where(NEW).order_by(Notification.id).limit(limit)
    new = (await session.scalars(statement.with_for_update(skip_locked=True))).all()
    values = {"state": "waiting", "attempts": 0, "due_at": now, "detail": "", "updated_at": now}
    deliveries = [
        {"notification_id": row.id, "target": name, "feedback_id": row.feedback_id} | values
        for row in new
        for name, events in targets.items()
        if row.event in events
    ]
    if deliveries:
        await session.execute(insert(plain_table(Delivery)), deliveries)
    for row in new:
        row.state = "addressed"


async def due(
    session: AsyncSession, target: str, now: float, limit: int = 20
) -> Sequence[tuple[Delivery, Notification]]:
    """What is to be sent to a target now, oldest first."""
    statement = (
        select(Delivery, Notification)
        .join(Notification, Notification.id == Delivery.notification_id)
        .where(Delivery.target == target, WAITING, Delivery.due_at <= now)
        .order_by(Delivery.due_at, Delivery.notification_id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in await session.execute(statement)]


async def delivered_since(session: AsyncSession, target: str, event: str, since: float) -> int:
    """How many notifications of a kind a target was sent since then."""
    statement = (
        select(func.count())
        .select_from(Delivery)
        .join(Notification, Notification.id == Delivery.notification_id)
        .where(
            Delivery.target == target,
            Delivery.state == "delivered",
            Delivery.updated_at > since,
            Notification.event == event,
        )
    )
    return await session.scalar(statement) or 0


async def record(
    session: AsyncSession, delivery: Delivery, state: str, detail: str, *, attempts: int, due_at: float, now: float
) -> None:
    """Write down how a delivery went; one that an erasure took away meanwhile stays away."""
    values = {"state": state, "detail": detail, "attempts": attempts, "due_at": due_at, "updated_at": now}
    mine = (Delivery.notification_id == delivery.notification_id, Delivery.target == delivery.target)
    await session.execute(update(Delivery).where(*mine).values(values), execution_options=AS_IT_IS)


async def leave_out(session: AsyncSession, target: str, event: str, detail: str, now: float) -> None:
    """Send a target nothing more of what waits about a kind of event."""
    of_kind = select(Notification.id).where(Notification.event == event)
    mine = (Delivery.target == target, WAITING, Delivery.notification_id.in_(of_kind))
    values = {"state": "left_out", "detail": detail, "updated_at": now}
    await session.execute(update(Delivery).where(*mine).values(values), execution_options=AS_IT_IS)


async def list_notifications(
    session: AsyncSession, limit: int, after: str | None = None
) -> Sequence[tuple[Notification, list[Delivery]]]:
    """Notifications, newest first, each with its deliveries, beginning behind the one of that id."""
    statement = select(Notification).order_by(Notification.created_at.desc(), Notification.id.desc()).limit(limit)
    if after is not None:
        last = await session.get(Notification, after)
        if last is None:
            text = f"There is no notification `{after}`; give the `last_id` of the page before."
            raise NotFound(text, param="after", code="notification_not_found")
        place = tuple_(Notification.created_at, Notification.id)
        statement = statement.where(place < tuple_(literal(last.created_at), literal(last.id)))
    rows = (await session.scalars(statement)).all()
    found: dict[str, list[Delivery]] = {row.id: [] for row in rows}
    sent = select(Delivery).where(Delivery.notification_id.in_(list(found))).order_by(Delivery.target)
    for delivery in await session.scalars(sent):
        found[delivery.notification_id].append(delivery)
    return [(row, found[row.id]) for row in rows]


async def forget_old(session: AsyncSession, before: float) -> None:
    """Delete notifications that came about before then."""
    old = select(Notification.id).where(Notification.last_at < before)
    await session.execute(delete(Delivery).where(Delivery.notification_id.in_(old)), execution_options=AS_IT_IS)
    await session.execute(delete(Notification).where(Notification.last_at < before), execution_options=AS_IT_IS)
