"""Cron expressions in a time zone, and plain intervals: which instants they name. Pure; knows no clock.

An expression has cron's five fields (minute, hour, day of month, month, day of week) or is one of its words, such as
`@daily`. As cron does it, a day must fit both day fields, or either of them where both say something. Where clocks are
set forward over a time of an expression that names its hours, it comes when they are set; where they are set back over
it, it comes once. Expressions whose hour begins with `*` go by the hours that pass, and come in each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.calendar.wall_clock import day_at, first_reading, instants_of

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DAYS_AHEAD = 9 * 366
"""From 2096 to 2104 there is no 29 February."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    first_word: int = 0


FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS, 1),
    _Field("day of week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True)
class Interval:
    """Every so many seconds from whenever the last was."""

    seconds: float

    def next_after(self, instant: float) -> float:
        """The next one, if the last was at `instant`."""
        return instant + self.seconds

    def newest_until(self, now: float) -> float:
        """An interval is over whenever it is looked at."""
        return now


@dataclass(frozen=True)
class Cron:
    """The instants that an expression names, in unix seconds."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""
    either_day: bool
    """Whether both day fields say something, so that fitting one of them is enough."""
    every_hour: bool
    """Whether it goes by the hours that pass, and not by what clocks show."""
    zone: ZoneInfo

    def next_after(self, instant: float) -> float:
        """The first after `instant`."""
        return _next_after(self, instant)

    def newest_until(self, now: float) -> float:
        """The last that is not after `now`."""
        begin = day_at(now, self.zone) + _DAY
        for number in range(_DAYS_AHEAD):
            if passed := [found for found in self._on(begin - number * _DAY) if found <= now]:
                return passed[-1]
        raise ValueError("there is no such day")

    def _days_from(self, instant: float) -> Iterator[list[float]]:
        # From the day before: where clocks skip midnight, what it had comes on the day after.
        begin = day_at(instant, self.zone) - _DAY
        return (self._on(begin + number * _DAY) for number in range(_DAYS_AHEAD))

    def _on(self, day: date) -> list[float]:
        if not self._fits(day):
            return []
        walls = [datetime.combine(day, time(hour, minute)) for hour in self.hours for minute in self.minutes]
        if self.every_hour:
            return sorted({found for wall in walls for found in instants_of(wall, self.zone)})
        return sorted({first_reading(wall, self.zone) for wall in walls})

    def _fits(self, day: date) -> bool:
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = by_month or by_week if self.either_day else by_month and by_week
        return fits and day.month in self.months


@lru_cache(maxsize=64)
def _next_after(cron: Cron, instant: float) -> float:
    """Asked for every second, with the same answer for hours."""
    for found in cron._days_from(instant):
        if later := [one for one in found if one > instant]:
            return later[0]
    raise ValueError("there is no such day; look at the day of month and the month")


Calendar = Cron | Interval


def interval_seconds(every: str) -> float:
    """`90s`, `15m`, `12h` or `7d` in seconds."""
    return float(every[:-1]) * _UNITS[every[-1]]


@lru_cache(maxsize=16)
def cron(expression: str, zone: ZoneInfo) -> Cron:
    """The expression, read. Raises `ValueError` with what is wrong in it and what to write instead."""
    if expression.startswith("@") and expression not in WORDS:
        raise ValueError(f"{expression!r} is none of cron's words; take one of {', '.join(WORDS)}")
    texts = WORDS.get(expression, expression).lower().split()
    if len(texts) != len(FIELDS):
        raise ValueError(
            f"{expression!r} has {len(texts)} fields and cron has five: minute, hour, day of month, month, day of "
            'week. Every night at half past two is "30 2 * * *"'
        )
    minutes, hours, days, months, weekdays = (_values(text, field) for text, field in zip(texts, FIELDS, strict=True))
    read = Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not texts[2].startswith("*") and not texts[4].startswith("*"),
        every_hour=texts[1].startswith("*"),
        zone=zone,
    )
    try:
        read.next_after(0.0)
    except ValueError as error:
        raise ValueError(f"{expression!r} never comes: {error}") from error
    return read


def days_of_week(text: str) -> frozenset[int]:
    """`sat,sun`, `mon-fri` or `*`: days as cron writes them, Sunday 0. Raises `ValueError`."""
    return frozenset(day % 7 for day in _values(text.lower(), FIELDS[4]))


def _values(text: str, field: _Field) -> set[int]:
    return {value for part in text.split(",") for value in _part(part, field)}


def _part(part: str, field: _Field) -> range:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        raise ValueError(f"the {field.name} {part!r} has no step; write */15, say, or 10-50/5")
    if span == "*":
        return range(field.low, min(field.high, 6 if field.words == WEEKDAYS else field.high) + 1, int(step or 1))
    first, dash, last = span.partition("-")
    begin = _number(first, field)
    end = _number(last, field) if dash else begin
    if last == "sun":
        end = 7
    if end < begin:
        raise ValueError(f"the {field.name} {part!r} ends before it begins; write it as two, with a comma between")
    if slash and not dash:
        raise ValueError(f"the {field.name} {part!r} has a step and no range; write {first}-{field.high}/{step}")
    return range(begin, end + 1, int(step or 1))


def _number(text: str, field: _Field) -> int:
    if text in field.words:
        return field.words.index(text) + field.first_word
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not field.low <= number <= field.high:
        names = f", or {field.words[0]} to {field.words[-1]}" if field.words else ""
        raise ValueError(f"{text!r} is no {field.name}; it takes {field.low} to {field.high}{names}")
    return number
