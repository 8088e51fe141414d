"""A goal says met only when it is, and by how much it was missed."""

import pytest

from benchmarks.gateway.goals import Goal, added, goals, median


def row(request=100.0, chunk=50.0, first_chunk=1.0, worker_rss=60.0):
    return {
        "cpu_us_per_request": [request],
        "cpu_us_per_chunk": [chunk],
        "first_chunk_ms": {"p50": [first_chunk]},
        "worker_rss_mb": [worker_rss],
    }


def rows():
    return {
        "direct": row(first_chunk=0.4),
        "alignway": row(request=90, chunk=45, first_chunk=0.9, worker_rss=70),
        "alignway-2-workers": row(request=96, worker_rss=101),
        "vllm-router": row(request=120, chunk=50),
        "sglang-router": row(request=200, chunk=40),
    }


def by_text(found):
    return {goal.text: goal for goal in found}


def test_every_goal_is_judged_against_the_rows_of_the_same_run():
    found = by_text(goals(rows(), ["vllm-router", "sglang-router", "smg"]))
    assert [(goal.figure, goal.limit, goal.is_met) for goal in found.values()] == [
        (90, pytest.approx(96), True),  # 0.8 x 120
        (90, pytest.approx(72), False),  # 0.6 x 120
        (45, 50, True),
        (45, 40, False),  # sglang-router is the lowest
        (pytest.approx(0.5), 1.0, True),  # 0.9 - 0.4
        (101, 100, False),  # of all our workers, the largest
        (pytest.approx(6.667, abs=0.001), 10, True),  # 96 / 90
    ]


def test_a_missed_goal_says_by_how_much():
    goal = Goal("CPU per request at most 0.8x vllm-router's", figure=150.0, limit=120.0, unit="us")
    assert goal.line() == (
        "CPU per request at most 0.8x vllm-router's: 150.00 us, limit 120.00: MISSED by 30.00 us (25 %)"
    )


def test_a_goal_met_to_the_letter_is_met():
    goal = Goal("x", figure=120.0, limit=120.0, unit="us", is_stretch=True)
    assert goal.line() == "x (stretch): 120.00 us, limit 120.00: met"


def test_a_goal_without_its_rows_is_not_judged_rather_than_met():
    assert goals({"alignway": row()}, []) == [Goal("memory of the largest worker", 60.0, 100.0, "MB")]
    assert goals({"vllm-router": row()}, ["vllm-router"]) == []


def test_a_figure_is_the_median_of_its_windows_and_a_missing_one_meets_no_goal():
    assert median({"x": [9.0, 1.0, 2.0]}, "x") == 2.0
    assert not Goal("x", median({"x": []}, "x"), 1.0, "us").is_met
    assert not Goal("x", median({}, "first_chunk_ms", "p50"), 1.0, "ms").is_met


def test_what_a_gateway_adds_is_what_it_takes_beyond_no_gateway():
    assert added(rows(), "vllm-router", "first_chunk_ms", "p50") == pytest.approx(0.6)
