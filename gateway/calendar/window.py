"""A weekly window, `sat,sun 01:00-05:00`: whether it is open, until when, and when it opens next. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.calendar.cron import days_of_week
from gateway.calendar.wall_clock import day_at, first_reading, last_reading

_SHAPE = re.compile(r"(\S+)\s+(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_EXAMPLE = 'write days as cron does and hours, such as "sat,sun 01:00-05:00" or "* 22:00-06:00"'
_DAY = timedelta(days=1)
_WEEK_AND_MORE = 10


@dataclass(frozen=True)
class Window:
    """Days of the week, and the hours that begin on them; a window that passes midnight ends on the next day."""

    weekdays: frozenset[int]
    """Sunday is 0."""
    begins: time
    ends: time
    """On the next day, unless it is later than `begins`."""
    zone: ZoneInfo

    def closes_at(self, now: float) -> float | None:
        """When the window that is open closes; None while it is closed."""
        return max((end for begin, end in self._around(now) if begin <= now < end), default=None)

    def opens_after(self, now: float) -> float:
        """When it opens next."""
        return min(begin for begin, _ in self._around(now) if begin > now)

    def _around(self, now: float) -> Iterator[tuple[float, float]]:
        first = day_at(now, self.zone) - 2 * _DAY
        for day in (first + number * _DAY for number in range(_WEEK_AND_MORE + 2)):
            if day.isoweekday() % 7 in self.weekdays:
                until = day if self.ends > self.begins else day + _DAY
                begin = first_reading(datetime.combine(day, self.begins), self.zone)
                yield begin, last_reading(datetime.combine(until, self.ends), self.zone)


@lru_cache(maxsize=16)
def window(text: str, zone: ZoneInfo) -> Window:
    """The window, read. Raises `ValueError` with what to write instead."""
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no window; {_EXAMPLE}")
    hours = [int(part) for part in found.groups()[1:]]
    if hours[2:] == [24, 0]:
        hours[2] = 0
    try:
        begins, ends = time(hours[0], hours[1]), time(hours[2], hours[3])
    except ValueError as error:
        raise ValueError(f"{text!r} names no hours of a day: {error}; {_EXAMPLE}") from error
    return Window(days_of_week(found[1]), begins, ends, zone)
