"""The report of the gates: what it tells a person, and that models' words stay quotations in it."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignment.gate.items import AnswerItem
from alignment.gate.report import changed_answers, changed_share, report_page, write_report
from alignment.gate.report_plot import span
from gateway.contracts.gate_report import Calibration, GateReport, LimitNoise, calibrated, gravest
from gateway.contracts.release import GateResult, Limit

DROP = Limit(name="drop", level="block", value=-0.06, limit=-0.05, side="below", crossed=True, low=-0.1, high=-0.02)
GAIN = Limit(name="gain", level="warn", value=0.02, limit=0.0, side="below", crossed=False)
GATE = GateResult(
    gate="holdout_preference", verdict="block", value=-0.06, limit=-0.05, reason="fell", n=200, limits=(DROP, GAIN)
)
NOISE = LimitNoise(
    gate="holdout_preference", name="drop", level="block", false_alarm_share=0.031, smallest_effect=0.0725
)
CALIBRATION = Calibration(
    alias="assistant", how="seeds", subject="2 trainings", draws=400, holdout_pairs=180,
    made_at=datetime(2026, 11, 23, tzinfo=UTC), limits=(NOISE,),
)  # fmt: skip


def answer(prompt: str, candidate: str, **others: str) -> AnswerItem:
    return AnswerItem(prompt=prompt, texts={"candidate": candidate} | others, figures={})


def report(calibration: Calibration | None = None, answers: tuple[AnswerItem, ...] = ()) -> GateReport:
    return GateReport(
        release="rel_1", name="assistant-20261123-1", alias="assistant", compared_with=None,
        created_at=datetime(2026, 11, 23, tzinfo=UTC), verdict=gravest((GATE,)),
        gates=calibrated((GATE,), calibration), calibration=calibration,
        changed_answers=tuple(changed_answers(answers)),
    )  # fmt: skip


def test_the_page_shows_every_figure_beside_its_limit_with_what_a_calibration_found() -> None:
    row = "| holdout_preference | drop | block | -0.06 | -0.1 to -0.02 | below -0.05 | **yes** "
    assert row + "| - | - |" in report_page(report())
    assert "`alignway gates calibrate` finds out" in report_page(report())
    page = report_page(report(CALIBRATION))
    assert row + "| 3.1 % | 0.0725 |" in page
    assert "| gain | warn | 0.02 | - | below 0 | no | - | - |" in page  # asked by no draw
    assert "400 comparisons without a difference (2 trainings; 180 held-out pairs)" in page
    assert "may not serve: a gate blocks it" in page


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("a b c", "a b c", 0.0), ("a b", "c d", 1.0), ("a b c d", "a b", 1 / 3), ("", "", 0.0), ("a", "", 1.0)],
)
def test_change_is_counted_in_words(one: str, other: str, share: float) -> None:
    assert changed_share(one, other) == pytest.approx(share)


def test_the_most_changed_answers_stand_first_beside_those_of_the_model_to_beat() -> None:
    answers = (
        answer("same", "a b", base="x y", incumbent="a b"),
        answer("half", "a b", base="a b", incumbent="a c"),
        answer("all", "# Title\n| cell", base="a b"),
    )
    found = changed_answers(answers)
    assert [(one.prompt, one.incumbent, one.changed_share) for one in found] == [
        ("all", "a b", 1.0),
        ("half", "a c", 0.5),
    ]
    assert [one.prompt for one in changed_answers(answers, most=1)] == ["all"]
    assert "> # Title\n> | cell" in report_page(report(answers=answers))  # a quotation, not a heading of the page


def test_the_files_read_back_and_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        write_report(tmp_path / folder, report(CALIBRATION))
    assert GateReport.model_validate_json((tmp_path / "one" / "gates.json").read_text()) == report(CALIBRATION)
    pictures = [(tmp_path / folder / "gates.png").read_bytes() for folder in ("one", "other")]
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")


def test_the_axis_of_a_limit_shows_interval_figure_and_limit() -> None:
    low, high = span(DROP)
    assert low == pytest.approx(-0.108)
    assert high == pytest.approx(-0.012)
    zero = Limit(name="empty", level="block", value=0.0, limit=0.0, side="above", crossed=False)
    assert span(zero) == (-1.0, 1.0)
    no_number = zero.model_copy(update={"value": sys.float_info.max, "limit": 0.3, "crossed": True})
    assert span(no_number) == pytest.approx((0.27, 0.33))
