"""Who counts as dead, look by look, on the agent's own clock: worked out by hand."""

from gateway.agent.workers import WorkerWatch


def looks(watch: WorkerWatch, *beats: tuple[float, dict[str, float]]) -> dict[str, float]:
    for now, seen in beats:
        watch.look(seen, now)
    return watch.dead()


def test_a_worker_is_dead_after_a_whole_lease_of_silence() -> None:
    watch = WorkerWatch()
    silent = [(float(second), {"gw_1": 50.0, "gw_2": 50.0 + second}) for second in range(6)]
    assert looks(watch, *silent) == {}
    assert looks(watch, (6.0, {"gw_1": 50.0, "gw_2": 56.0})) == {"gw_1": 50.0}


def test_clocks_of_workers_are_not_compared_with_the_agents_own() -> None:
    watch = WorkerWatch()
    ahead_and_behind = [(float(second), {"gw_1": 9e9 + second, "gw_2": 1.0 + second}) for second in range(20)]
    assert looks(watch, *ahead_and_behind) == {}
    assert looks(watch, (20.0, {"gw_1": 3.0, "gw_2": 21.0})) == {}  # a clock that was set back


def test_nobody_dies_of_silence_while_the_agent_itself_could_not_write() -> None:
    watch = WorkerWatch()
    assert looks(watch, (0.0, {"gw_1": 50.0}), (9.0, {"gw_1": 50.0}), (14.0, {"gw_1": 50.0})) == {}
    steady = [(14.0 + second, {"gw_1": 50.0}) for second in range(1, 7)]
    assert looks(watch, *steady) == {"gw_1": 50.0}


def test_a_worker_that_speaks_again_is_alive() -> None:
    watch = WorkerWatch()
    assert looks(watch, *[(float(second), {"gw_1": 50.0}) for second in range(7)]) == {"gw_1": 50.0}
    assert looks(watch, (7.0, {"gw_1": 57.0})) == {}


def test_a_worker_that_signed_off_is_nobodys_concern() -> None:
    watch = WorkerWatch()
    assert looks(watch, *[(float(second), {"gw_1": 50.0}) for second in range(7)], (7.0, {})) == {}
