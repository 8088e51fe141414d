"""Cron expressions and windows against instants worked out by hand, over changes of the clocks above all."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.calendar.cron import Cron, cron
from gateway.calendar.window import window
from gateway.sections.aligner import AlignerSettings

BERLIN, LORD_HOWE, SAO_PAULO = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Sao_Paulo")


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def times(read: Cron, after: str, count: int) -> list[str]:
    """The next instants, in UTC."""
    found, instant = [], utc(after)
    for _ in range(count):
        instant = read.next_after(instant)
        found.append(f"{datetime.fromtimestamp(instant, UTC):%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        # 2026-11-27 is a Friday.
        ("30 2 * * mon-fri", BERLIN, "2026-11-27T02:00", ["11-30 01:30", "12-01 01:30"]),
        ("*/20 22-23,0 * * *", BERLIN, "2026-11-27T22:30", ["11-27 22:40", "11-27 23:00", "11-27 23:20"]),
        ("0 12 13 * fri", BERLIN, "2026-11-06T12:00", ["11-13 11:00", "11-20 11:00", "11-27 11:00", "12-04 11:00"]),
        ("0 12 */10 * fri", BERLIN, "2026-11-01T00:00", ["12-11 11:00", "01-01 11:00"]),
        ("0 0 29 2 *", BERLIN, "2026-11-27T00:00", ["02-28 23:00"]),
        ("15 4 * * 5-7", BERLIN, "2026-11-27T04:00", ["11-28 03:15", "11-29 03:15", "12-04 03:15"]),
        ("@weekly", BERLIN, "2026-11-27T04:00", ["11-28 23:00", "12-05 23:00"]),
        # Clocks are set forward on 29 March, at 01:00 UTC from 02:00 to 03:00: 02:30 never is.
        ("30 2 * * *", BERLIN, "2026-03-27T12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00", ["03-29 01:00", "03-29 01:30", "03-30 00:00"]),
        ("30 * * * *", BERLIN, "2026-03-29T00:00", ["03-29 00:30", "03-29 01:30", "03-29 02:30"]),
        # They are set back on 25 October, at 01:00 UTC from 03:00 to 02:00: 02:30 is twice.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 * * * *", BERLIN, "2026-10-25T00:00", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        # By half an hour on Lord Howe Island (4 October, 02:00 to 02:30), over midnight in Sao Paulo (2018-11-04).
        ("15 2 * * *", LORD_HOWE, "2026-10-02T20:00", ["10-03 15:30", "10-04 15:15"]),
        ("0 0 * * *", SAO_PAULO, "2018-11-03T12:00", ["11-04 03:00", "11-05 02:00"]),
    ],
)
def test_an_expression_names_these_instants(expression: str, zone: ZoneInfo, after: str, expected: list[str]) -> None:
    read = cron(expression, zone)
    assert times(read, after, len(expected)) == expected
    last = read.next_after(utc(after))
    assert read.newest_until(last) == last
    assert read.newest_until(read.next_after(last) - 1) == last


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"schedule": "30 2 * *"},
            r"has 4 fields and cron has five: .* Every night at half past two is",
        ),
        ({"schedule": "60 * * * *"}, "'60' is no minute; it takes 0 to 59"),
        ({"schedule": "0 0 30 2 *"}, "'0 0 30 2 .' never comes"),
        ({"schedule": "5/15 * * * *"}, "has a step and no range; write 5-59/15"),
        ({"schedule": "0 0 * * fri-mon"}, "ends before it begins; write it as two"),
        ({"schedule": "0 0 L * *"}, "'l' is no day of month; it takes 1 to 31"),
        ({"schedule": "@daily", "every": "1d"}, "leave one of them out"),
        ({"schedule": "@daily", "time_zone": "Berlin"}, 'aligner.time_zone: .* such as "Europe/Berlin"'),
        ({"maintenance_window": "sat 1-5"}, 'aligner.maintenance_window: .* "sat,sun 01:00-05:00"'),
        ({"devices": "gpu:0"}, 'is none of auto, borrow, cpu, and GPUs as "cuda:6,7"'),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_write(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AlignerSettings.model_validate(settings)


def test_a_window_passes_midnight_and_changes_of_the_clocks() -> None:
    nightly = window("sat 23:00-04:00", BERLIN)
    # Saturday 24 October 23:00 is 21:00 UTC; Sunday 04:00 is 03:00 UTC, an hour later than the night before.
    assert nightly.closes_at(utc("2026-10-24T20:59")) is None
    assert nightly.closes_at(utc("2026-10-24T21:00")) == utc("2026-10-25T03:00")
    assert nightly.closes_at(utc("2026-10-25T02:59")) == utc("2026-10-25T03:00")
    assert nightly.closes_at(utc("2026-10-25T03:00")) is None
    assert nightly.opens_after(utc("2026-10-25T03:00")) == utc("2026-10-31T22:00")
    assert window("* 00:00-24:00", BERLIN).closes_at(utc("2026-10-24T20:59")) is not None
