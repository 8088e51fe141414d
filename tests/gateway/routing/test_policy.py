"""Which release and which replica take a request: decided from a snapshot, worked out by hand."""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

from gateway.routing.policy import (
    EVEN,
    AliasView,
    Bound,
    ReleaseView,
    ReplicaView,
    Target,
    able,
    choose,
    fraction,
    point_of,
    resolve,
)
from gateway.sections.canary import CanarySettings

OLD = ReleaseView("rel_old", "assistant-20260101-1", "assistant")
NEW = ReleaseView("rel_new", "assistant-20260101-2", "assistant")


def replica(name: str = "assistant-1", **changes: object) -> ReplicaView:
    facts = {
        "id": name,
        "alias": "assistant",
        "url": f"http://{name}",
        "ready": True,
        "fenced": False,
        "epoch": 1,
        "weights_release_id": "rel_old",
        "adapters": frozenset(),
    }
    return ReplicaView(**(facts | changes))  # type: ignore[arg-type]


def test_full_weights_are_asked_for_by_the_common_name_and_adapters_by_their_release() -> None:
    with_adapter = replica(adapters=frozenset({"rel_new"}))
    assert with_adapter.model_for("rel_old") == "weights"
    assert with_adapter.model_for("rel_new") == "rel-new"
    assert with_adapter.model_for("rel_other") is None


def test_somebody_elses_engine_is_asked_for_its_model_by_its_own_name() -> None:
    assert replica(weights_name="qwen2.5-7b").model_for("rel_old") == "qwen2.5-7b"


def test_nothing_goes_to_a_replica_that_is_fenced_or_starting_or_has_no_address() -> None:
    for broken in (replica(fenced=True), replica(ready=False), replica(url=None)):
        assert able([broken], OLD) == ()


def test_the_least_busy_replica_that_serves_the_release_is_chosen() -> None:
    targets = able([replica("a"), replica("b"), replica("c", weights_release_id="rel_new")], OLD)
    for point in range(20):
        target = choose(targets, {"a": 3, "b": 2, "c": 0}, point, EVEN)
        assert (target.replica_id, target.engine_model, target.release) == ("b", "weights", OLD)


def test_canary_gets_its_share_and_the_same_caller_always_gets_the_same_release() -> None:
    alias = AliasView("assistant", OLD.id, NEW.id, canary_share=0.25)
    answers = [resolve(alias, f"user-{number}".encode()) for number in range(4000)]
    # 4000 draws at 0.25: standard deviation of the share is 0.0068; five of them either way
    assert abs(answers.count(NEW.id) / 4000 - 0.25) < 0.034
    assert [resolve(alias, b"user-7") for _ in range(3)] == [answers[7]] * 3


def test_growing_the_canary_never_takes_a_caller_back_to_the_incumbent() -> None:
    reached: set[int] = set()
    for share in (0.01, *CanarySettings().steps, 0.6):
        alias = AliasView("assistant", OLD.id, NEW.id, canary_share=share)
        now = {number for number in range(2000) if resolve(alias, f"user-{number}".encode()) == NEW.id}
        assert reached < now
        reached = now
    promoted = AliasView("assistant", NEW.id)
    assert {resolve(promoted, f"user-{number}".encode()) for number in reached} == {NEW.id}


def test_without_a_canary_everybody_gets_what_the_alias_serves() -> None:
    assert resolve(AliasView("assistant", OLD.id), b"anybody") == OLD.id


def test_fraction_depends_on_the_salt() -> None:
    assert 0 <= fraction(b"assistant", b"key") < 1
    assert fraction(b"assistant", b"key") != fraction(b"other", b"key")


def eight() -> tuple[Target, ...]:
    return able([replica(f"assistant-{number}") for number in range(1, 9)], OLD)


def place(targets: tuple[Target, ...], affinity: bytes, loads: Mapping[str, int] | None = None) -> str:
    return choose(targets, Counter(loads or {}), point_of(affinity), Bound()).replica_id


def test_the_same_conversation_goes_to_the_same_replica_in_every_process() -> None:
    targets = eight()
    (chosen,) = {place(targets, b"You are a helpful") for _ in range(50)}
    assert place(tuple(reversed(targets)), b"You are a helpful") == chosen
    code = "from tests.gateway.routing.test_policy import *; print(place(eight(), b'You are a helpful'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert other.stdout.strip() == chosen


def test_conversations_are_spread_evenly() -> None:
    counts = Counter(place(eight(), f"conversation {number}".encode()) for number in range(8000))
    # 8000 draws of 1/8: mean 1000, standard deviation 29.6; five of them either way
    assert len(counts) == 8
    assert all(abs(count - 1000) < 148 for count in counts.values())


def test_losing_a_replica_moves_its_conversations_alone_and_spreads_them() -> None:
    targets = eight()
    left = tuple(target for target in targets if target.replica_id != "assistant-3")
    moved: Counter[str] = Counter()
    for number in range(4000):
        before, after = (place(some, f"conversation {number}".encode()) for some in (targets, left))
        assert after == before or before == "assistant-3"
        moved[after] += before == "assistant-3"
    assert moved.total() > 400
    assert all(moved[target.replica_id] > 30 for target in left)  # about 500 / 7 each


def test_the_busiest_replica_stays_within_the_bound_though_everybody_wants_it() -> None:
    targets, loads = eight(), Counter[str]()
    for _ in range(400):
        loads[place(targets, b"the same prompt for all", loads)] += 1
    # None has more than 1.25 times the least and 8, rounded up: 400 <= least + 7 * (1.25 * least + 9), so least >= 35.
    least = min(loads[target.replica_id] for target in targets)
    assert max(loads.values()) <= 1.25 * least + 8 + 1
    assert least >= 35


def test_a_favourite_that_is_too_busy_is_replaced_by_the_same_second_choice() -> None:
    favourite = place(eight(), b"prompt")
    second = {place(eight(), b"prompt", {favourite: 8 + extra}) for extra in range(20)}
    assert len(second) == 1
    assert second != {favourite}
    assert place(eight(), b"prompt", {favourite: 7}) == favourite


def test_without_affinity_equally_busy_replicas_take_turns() -> None:
    counts = Counter(choose(eight(), Counter(), turn, EVEN).replica_id for turn in range(800))
    assert len(counts) == 8
    assert min(counts.values()) > 50
