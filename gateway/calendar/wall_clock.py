"""From what a clock on the wall shows to the instants when it does: none, one or two. Pure; knows no time of day."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SHORTEST_SECONDS = 1.0


def zone_named(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises `ValueError`, saying what to write instead."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f'there is no time zone {name!r}; take an IANA name such as "Europe/Berlin" or "UTC"'
        ) from error


def day_at(instant: float, zone: ZoneInfo) -> date:
    """The date in the zone."""
    return datetime.fromtimestamp(instant, zone).date()


def instants_of(wall: datetime, zone: ZoneInfo) -> tuple[float, ...]:
    """When the zone's clocks show `wall` (without a zone), in unix seconds, earliest first.

    Two where clocks are set back over it; none where they are set forward over it.
    """
    first, second = _readings(wall, zone)
    if first == second:
        return (first,)
    return (first, second) if first < second else ()


def first_reading(wall: datetime, zone: ZoneInfo) -> float:
    """The first instant when clocks show `wall`; where they never do, the one when they are set forward over it."""
    found = instants_of(wall, zone)
    return found[0] if found else _set_forward_at(wall, zone)


def last_reading(wall: datetime, zone: ZoneInfo) -> float:
    """As `first_reading`, but the second of two."""
    found = instants_of(wall, zone)
    return found[-1] if found else _set_forward_at(wall, zone)


def _readings(wall: datetime, zone: ZoneInfo) -> tuple[float, float]:
    """By the offset before a change of the clocks near `wall`, and by the one after it (PEP 495)."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return before, after


def _set_forward_at(wall: datetime, zone: ZoneInfo) -> float:
    # What never was: read by the offset before the change it lies behind it, by the one after it lies before it.
    late, early = _readings(wall, zone)
    while late - early > _SHORTEST_SECONDS:
        middle = (early + late) // 2
        if _offset(middle, zone) == _offset(early, zone):
            early = middle
        else:
            late = middle
    return late


def _offset(instant: float, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(instant, zone).utcoffset()
