"""Which planned run is due, and which comes next: a pure rule over a stored instant and the clock of the moment.

Up to the stored instant everything planned has been started or left out. So a restart misses nothing and doubles
nothing, and of several planned instants that passed meanwhile the newest alone counts. A clock that is set forward
makes them pass. One that is set back by less than the time between two runs brings no instant for the second time; one
that is set back by more begins anew from where it stands: nobody wants to wait for the year it showed by mistake.
"""

from dataclasses import dataclass

from gateway.calendar.cron import Calendar, Interval


@dataclass(frozen=True)
class Stored:
    """What is remembered of an alias."""

    schedule: str | None
    """The schedule that `until` belongs to; another one begins anew."""
    until: float | None
    """Up to here everything planned is dealt with."""
    begun_at: float
    """When the last run of the alias was asked for, or else when the alias was made: where an interval begins."""


@dataclass(frozen=True)
class Planned:
    """Where a schedule stands."""

    until: float
    """Up to here everything planned is dealt with; to be stored where it is not what is."""
    due_at: float | None
    """The newest planned instant since then, if one has passed."""
    next_at: float
    """The first instant that is not dealt with."""


def planned(calendar: Calendar, schedule: str, stored: Stored, now: float) -> Planned:
    """Where `calendar` stands at `now`; times in unix seconds."""
    until = _until(calendar, schedule, stored, now)
    next_at = calendar.next_after(until)
    return Planned(until, calendar.newest_until(now) if next_at <= now else None, next_at)


def _until(calendar: Calendar, schedule: str, stored: Stored, now: float) -> float:
    begin = min(stored.begun_at, now) if isinstance(calendar, Interval) else now
    if stored.until is None or stored.schedule != schedule:
        return begin
    if stored.until - now > calendar.next_after(stored.until) - stored.until:
        return begin
    return max(stored.until, begin) if isinstance(calendar, Interval) else stored.until
