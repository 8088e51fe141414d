"""Two rounds of one gateway are one row, and nothing that went wrong in either is lost."""

from benchmarks.gateway.measure import Row


def test_rounds_stand_side_by_side_and_counts_add_up():
    one = Row("x", cpu_us_per_request=[90.0, 92.0], latency_ms={"p50": [1.0]}, rate=50.0, streams=100, rss_mb=70.0)
    two = Row(
        "x", cpu_us_per_request=[95.0], latency_ms={"p50": [3.0], "max": [9.0]}, rate=20.0, streams=60, rss_mb=65.0
    )
    one.answers, one.wrong, one.facts = 1000, {"status 500": 2}, {"asked": 1000, "recorded": 1000, "version": "1"}
    two.answers, two.wrong, two.facts = (
        500,
        {"status 500": 1, "cut": 1},
        {"asked": 500, "recorded": 499, "version": "1"},
    )
    both = one.with_round(two)
    assert both.cpu_us_per_request == [90.0, 92.0, 95.0]
    assert both.latency_ms == {"p50": [1.0, 3.0], "max": [9.0]}
    assert (both.rounds, both.answers, both.rate, both.streams, both.rss_mb) == (2, 1500, 20.0, 60, 70.0)
    assert both.wrong == {"status 500": 3, "cut": 1}
    assert both.facts == {"asked": 1500, "recorded": 1499, "version": "1"}
