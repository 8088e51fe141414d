"""A gateway's latency is measured at a load it can bear, and no gateway gets less load than it can."""

from benchmarks.gateway.plan import Plan, bearable_rate, bearable_streams

PLAN = Plan(rate=50.0, streams=100, pause_ms=20.0)


def test_a_fast_gateway_gets_the_plans_load():
    assert bearable_rate(PLAN, 5000.0) == 50.0
    assert bearable_streams(PLAN, 50.0) == 100


def test_a_slow_gateway_gets_what_fills_its_core_to_the_share():
    assert bearable_rate(PLAN, 30.0) == 18.0  # 60 % of what it can do
    # At 1,500 us a chunk, 400 chunks a second fill 60 % of a core; a stream brings 50 a second.
    assert bearable_streams(PLAN, 1500.0) == 8


def test_even_the_slowest_gets_one():
    assert bearable_rate(PLAN, 0.5) == 1.0
    assert bearable_streams(PLAN, 1e6) == 1


def test_streams_without_a_pace_are_not_bounded():
    assert bearable_streams(Plan(pause_ms=0), 1500.0) == 100
