"""The plan of a rollout, look by look, against decisions worked out by hand."""

from dataclasses import replace

import pytest

from gateway.contracts.rollout import NEXT_STATES, check_step, swap_pause_seconds
from gateway.errors import Conflict
from gateway.rollout.canary import Trial
from gateway.rollout.facts import ReleaseFacts, ReplicaFacts, RolloutFacts, Snapshot, fits_as_adapter
from gateway.rollout.plan import (
    Advance,
    BeginBeside,
    BeginSwap,
    CallOffBeside,
    CallOffSwap,
    EndCanary,
    Forget,
    GoBack,
    HoldAdapters,
    Serve,
    StartCanary,
    StartOn,
    plan,
)

BASE = ReleaseFacts("base", None, 0)
ONE = ReleaseFacts("one", "base", 16)
TWO = ReleaseFacts("two", "base", 16)
PROMOTING_ONE = RolloutFacts("one", "promoting", "immediate")

R1 = ReplicaFacts(
    id="r1",
    ready=True,
    managed=True,
    weights_id="base",
    adapters=frozenset(),
    max_adapter_rank=16,
    desired_weights_id="base",
    desired_adapters=frozenset(),
    swap_state=None,
)
SETTLED = Snapshot("base", None, "merged", (R1,), {"base": BASE, "one": ONE, "two": TWO}, now=100.0)
HOLDING_ONE = replace(R1, adapters=frozenset({"one"}), desired_adapters=frozenset({"one"}))


def test_nothing_is_done_when_everything_is_as_it_should_be() -> None:
    assert plan(SETTLED) == []


def test_an_immediate_promotion_goes_through_its_states_one_look_at_a_time() -> None:
    waiting = replace(SETTLED, rollout=RolloutFacts("one", "waiting", "immediate"))
    assert [action.to for action in plan(waiting) if isinstance(action, Advance)] == ["canary"]
    canary = replace(SETTLED, rollout=RolloutFacts("one", "canary", "immediate"))
    assert [action.to for action in plan(canary) if isinstance(action, Advance)] == ["promoting"]


def test_the_candidate_is_loaded_beside_the_incumbent_before_it_serves() -> None:
    assert plan(replace(SETTLED, rollout=PROMOTING_ONE)) == [HoldAdapters("r1", frozenset({"one"}))]


def test_the_alias_moves_only_once_an_engine_holds_the_candidate() -> None:
    told = replace(R1, desired_adapters=frozenset({"one"}))
    assert plan(replace(SETTLED, rollout=PROMOTING_ONE, replicas=(told,))) == []
    assert plan(replace(SETTLED, rollout=PROMOTING_ONE, replicas=(HOLDING_ONE,))) == [Serve("one")]


def test_weights_are_merged_only_after_the_adapter_serves() -> None:
    serving = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(HOLDING_ONE,))
    assert plan(serving) == [BeginSwap("r1", "one")]


def test_promotion_ends_when_every_replica_holds_the_merged_weights() -> None:
    merged = replace(R1, weights_id="one", desired_weights_id="one")
    behind = replace(HOLDING_ONE, id="r2")
    half = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(merged, behind))
    assert plan(half) == [BeginSwap("r2", "one")]
    done = replace(half, replicas=(merged, replace(merged, id="r2")))
    assert [action.to for action in plan(done) if isinstance(action, Advance)] == ["promoted"]


def test_only_one_replica_at_a_time_is_out_of_rotation() -> None:
    swapping = replace(HOLDING_ONE, desired_adapters=frozenset(), swap_state="draining", swap_deadline=130.0)
    other = replace(HOLDING_ONE, id="r2")
    snapshot = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(swapping, other))
    assert plan(snapshot) == []


def test_of_several_replicas_one_alone_begins_an_exchange() -> None:
    other = replace(HOLDING_ONE, id="r2")
    snapshot = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(HOLDING_ONE, other))
    assert plan(snapshot) == [BeginSwap("r1", "one")]


def test_no_exchange_begins_while_another_replica_is_not_ready() -> None:
    down = replace(R1, id="r2", ready=False, weights_id=None, desired_weights_id="one")
    snapshot = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(HOLDING_ONE, down))
    assert plan(snapshot) == []
    without_agent = replace(down, managed=False)
    assert plan(replace(snapshot, replicas=(HOLDING_ONE, without_agent))) == [BeginSwap("r1", "one")]


def test_a_canary_that_no_engine_can_hold_beside_its_weights_is_ended() -> None:
    trial = RolloutFacts("two", "canary", "canary", canary_share=0.05)
    merged = replace(R1, weights_id="one", desired_weights_id="one")
    snapshot = replace(SETTLED, serving_id="one", rollout=trial, replicas=(merged,))
    assert plan(snapshot) == [EndCanary("no engine can hold the candidate beside what it serves", rejected=False)]
    down = replace(merged, ready=False)
    assert plan(replace(snapshot, replicas=(down,))) == []  # what it comes up with is not known


def test_an_engine_without_an_agent_does_not_keep_a_promotion_open() -> None:
    merged = replace(R1, weights_id="one", desired_weights_id="one")
    foreign = replace(R1, id="r2", managed=False)
    snapshot = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(merged, foreign))
    assert [action.to for action in plan(snapshot) if isinstance(action, Advance)] == ["promoted"]


def test_an_adapter_that_no_engine_can_hold_is_given_up_once_all_engines_are_known() -> None:
    small = replace(R1, max_adapter_rank=8)
    snapshot = replace(SETTLED, swap="adapter", rollout=PROMOTING_ONE, replicas=(small,))
    assert [action.to for action in plan(snapshot) if isinstance(action, Advance)] == ["rolled_back"]
    down = replace(small, id="r2", ready=False)
    assert plan(replace(snapshot, replicas=(small, down))) == []


def test_a_replica_that_can_never_hold_an_adapter_does_not_keep_its_promotion_open() -> None:
    small = replace(R1, id="r2", max_adapter_rank=8)
    replicas = (HOLDING_ONE, small)
    snapshot = replace(SETTLED, swap="adapter", serving_id="one", rollout=PROMOTING_ONE, replicas=replicas)
    assert [action.to for action in plan(snapshot) if isinstance(action, Advance)] == ["promoted"]


def test_the_pause_before_an_exchange_doubles_each_time_it_is_put_off() -> None:
    assert [swap_pause_seconds(20.0, put_offs) for put_offs in range(7)] == [20, 40, 80, 160, 320, 600, 600]
    assert swap_pause_seconds(900.0, 5) == 900


def test_over_merged_weights_the_next_release_is_swapped_in_without_an_adapter() -> None:
    merged = replace(R1, weights_id="one", desired_weights_id="one")
    snapshot = replace(
        SETTLED, serving_id="one", rollout=RolloutFacts("two", "promoting", "immediate"), replicas=(merged,)
    )
    assert plan(snapshot) == [BeginSwap("r1", "two")]


def test_an_adapter_too_large_for_the_engine_is_not_loaded_but_merged() -> None:
    small = replace(R1, max_adapter_rank=8)
    assert plan(replace(SETTLED, rollout=PROMOTING_ONE, replicas=(small,))) == [BeginSwap("r1", "one")]


def test_streams_that_do_not_end_put_the_merge_off_and_the_adapter_goes_on_serving() -> None:
    draining = replace(HOLDING_ONE, desired_adapters=frozenset(), swap_state="draining", swap_deadline=99.0)
    snapshot = replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(draining,))
    assert plan(snapshot) == [CallOffSwap("r1")]
    put_off = replace(HOLDING_ONE, swap_not_before=110.0)
    assert plan(replace(snapshot, replicas=(put_off,))) == []
    assert plan(replace(snapshot, replicas=(put_off,), now=110.0)) == [BeginSwap("r1", "one")]


def test_an_exchange_under_way_is_never_called_off() -> None:
    loading = replace(HOLDING_ONE, swap_state="loading", swap_deadline=99.0)
    assert plan(replace(SETTLED, serving_id="one", rollout=PROMOTING_ONE, replicas=(loading,))) == []


def test_a_rollback_to_weights_still_held_needs_no_swap() -> None:
    back = RolloutFacts("base", "promoting", "immediate")
    snapshot = replace(SETTLED, serving_id="one", rollout=back, replicas=(HOLDING_ONE,))
    assert plan(snapshot) == [Serve("base")]


def test_an_engine_holding_foreign_weights_is_mended() -> None:
    foreign = replace(R1, weights_id="two", desired_weights_id="two")
    assert plan(replace(SETTLED, replicas=(foreign,))) == [BeginSwap("r1", "base")]


def test_an_engine_that_is_down_comes_up_on_what_the_alias_serves() -> None:
    down = replace(R1, ready=False, weights_id=None)
    assert plan(replace(SETTLED, serving_id="one", replicas=(down,))) == [StartOn("r1", "one")]


def test_adapters_nobody_asks_for_any_more_are_dropped() -> None:
    assert plan(replace(SETTLED, replicas=(HOLDING_ONE,))) == [HoldAdapters("r1", frozenset())]


def test_with_swap_adapter_the_base_stays_and_the_adapter_is_final() -> None:
    snapshot = replace(SETTLED, swap="adapter", serving_id="one", rollout=PROMOTING_ONE, replicas=(HOLDING_ONE,))
    assert [action.to for action in plan(snapshot) if isinstance(action, Advance)] == ["promoted"]
    assert plan(replace(snapshot, rollout=None)) == []


def test_a_canary_gets_its_share_once_an_engine_holds_it() -> None:
    trial = RolloutFacts("one", "canary", "canary", canary_share=0.05)
    assert plan(replace(SETTLED, rollout=trial)) == [HoldAdapters("r1", frozenset({"one"}))]
    assert plan(replace(SETTLED, rollout=trial, replicas=(HOLDING_ONE,))) == [StartCanary("one", 0.05)]
    begun = replace(trial, trial=Trial(0.05, began_at=90.0, asked_by_person=True, gates_green=True))
    running = replace(SETTLED, rollout=begun, replicas=(HOLDING_ONE,), canary_id="one")
    assert plan(running) == []  # at 100.0, of the step's 1800 s


def test_an_engine_without_an_agent_is_left_alone() -> None:
    foreign = replace(R1, managed=False)
    assert plan(replace(SETTLED, serving_id="one", replicas=(foreign,))) == []


def test_every_step_that_is_not_listed_is_refused() -> None:
    for before in NEXT_STATES:
        for after in NEXT_STATES:
            if after in NEXT_STATES[before]:
                check_step(before, after)
            else:
                with pytest.raises(Conflict):
                    check_step(before, after)


MERGED_ONE = replace(R1, weights_id="one", desired_weights_id="one", max_adapter_rank=32)
ONE_FROM_THREE = replace(ONE, derived={"three": 32})
"""Three brought a reverse adapter that leads back to one."""
THREE = ReleaseFacts("three", "base", 16, {"one": 32})
OVER_ONE = Snapshot(
    "one", None, "merged", (MERGED_ONE,), {"base": BASE, "one": ONE_FROM_THREE, "two": TWO, "three": THREE}, now=100.0
)


def test_a_canary_over_merged_weights_is_held_by_its_difference_adapter_alone() -> None:
    canary = RolloutFacts("three", "canary", "canary", 0.05)
    assert plan(replace(OVER_ONE, rollout=canary)) == [HoldAdapters("r1", frozenset({"three"}))]
    nowhere = [EndCanary("no engine can hold the candidate beside what it serves", rejected=False)]
    of_another = replace(OVER_ONE, rollout=replace(canary, candidate_id="two"))  # made from another incumbent
    assert plan(of_another) == nowhere
    narrow = replace(MERGED_ONE, max_adapter_rank=31)
    assert plan(replace(OVER_ONE, rollout=canary, replicas=(narrow,))) == nowhere
    of_base = replace(MERGED_ONE, weights_id="base", desired_weights_id="base")
    assert fits_as_adapter(THREE, of_base)
    assert not fits_as_adapter(THREE, replace(MERGED_ONE, weights_id="three"))  # over its own weights it applies twice


def test_over_merged_weights_the_difference_adapter_serves_before_weights_are_exchanged() -> None:
    promoting = replace(OVER_ONE, rollout=RolloutFacts("three", "promoting", "immediate"))
    assert plan(promoting) == [HoldAdapters("r1", frozenset({"three"}))]
    holding = replace(MERGED_ONE, adapters=frozenset({"three"}), desired_adapters=frozenset({"three"}))
    assert plan(replace(promoting, replicas=(holding,))) == [Serve("three")]
    assert plan(replace(promoting, serving_id="three", replicas=(holding,))) == [BeginSwap("r1", "three")]


def test_after_a_promotion_the_way_back_is_loaded_and_a_rollback_takes_it_first() -> None:
    merged = replace(MERGED_ONE, weights_id="three", desired_weights_id="three")
    promoted = replace(OVER_ONE, serving_id="three", replicas=(merged,), fallback_id="one")
    assert plan(promoted) == [HoldAdapters("r1", frozenset({"one"}))]
    ready = replace(merged, adapters=frozenset({"one"}), desired_adapters=frozenset({"one"}))
    assert plan(replace(promoted, replicas=(ready,))) == []
    back = replace(promoted, replicas=(ready,), rollout=RolloutFacts("one", "promoting", "immediate"))
    assert plan(back) == [Serve("one")]
    assert plan(replace(back, serving_id="one", fallback_id=None)) == [BeginSwap("r1", "one")]


def test_the_way_back_leads_to_the_base_too() -> None:
    merged = replace(MERGED_ONE, weights_id="one", desired_weights_id="one")
    base = replace(BASE, derived={"one": 16})
    after_first = replace(OVER_ONE, replicas=(merged,), releases={"base": base, "one": ONE}, fallback_id="base")
    assert plan(after_first) == [HoldAdapters("r1", frozenset({"base"}))]


GIVEN_ONE = replace(R1, id="r-url", managed=False, given=True, weights_id="one", desired_weights_id="one")
BY_URL = replace(R1, managed=False, max_adapter_rank=0)
"""An engine that somebody else runs on the base."""


def test_a_given_server_takes_its_share_and_then_the_alias_while_nothing_is_loaded_anywhere() -> None:
    trial = RolloutFacts("one", "canary", "canary", canary_share=0.05)
    snapshot = replace(SETTLED, rollout=trial, replicas=(BY_URL, GIVEN_ONE))
    assert plan(snapshot) == [StartCanary("one", 0.05)]
    assert plan(replace(snapshot, rollout=PROMOTING_ONE)) == [Serve("one")]
    serving = replace(snapshot, rollout=PROMOTING_ONE, serving_id="one")
    assert [action.to for action in plan(serving) if isinstance(action, Advance)] == ["promoted"]


def test_a_given_server_that_is_gone_ends_its_canary_and_its_promotion() -> None:
    gone = replace(GIVEN_ONE, ready=False, detail="refused")
    snapshot = replace(SETTLED, rollout=PROMOTING_ONE, replicas=(BY_URL, gone))
    assert plan(snapshot) == [Advance("rolled_back", "its server does not answer: r-url: refused")]
    (ended,) = plan(replace(snapshot, rollout=RolloutFacts("one", "canary", "canary", canary_share=0.05)))
    assert isinstance(ended, EndCanary)
    assert not ended.rejected


def test_what_served_before_serves_again_when_every_given_server_is_gone_and_it_is_at_hand() -> None:
    gone = replace(GIVEN_ONE, ready=False, detail="refused")
    snapshot = replace(SETTLED, serving_id="one", fallback_id="base", replicas=(BY_URL, gone))
    assert plan(snapshot) == [GoBack("its server does not answer: r-url: refused")]
    assert plan(replace(snapshot, replicas=(replace(BY_URL, ready=False), gone))) == []
    assert plan(replace(snapshot, replicas=(BY_URL, gone, replace(GIVEN_ONE, id="r-url2")))) == []


def test_a_given_server_is_forgotten_once_nobody_may_ask_for_its_release_and_nothing_goes_on_there() -> None:
    idle = replace(GIVEN_ONE, idle=True)
    snapshot = replace(SETTLED, replicas=(BY_URL, idle))
    assert plan(snapshot) == [Forget("r-url")]
    assert plan(replace(snapshot, replicas=(BY_URL, GIVEN_ONE))) == []
    for kept in ({"serving_id": "one"}, {"fallback_id": "one"}, {"canary_id": "one"}):
        assert plan(replace(snapshot, **kept)) == []
    trial = RolloutFacts("two", "promoting", "immediate", incumbent_id="one")
    assert Forget("r-url") not in plan(replace(snapshot, rollout=trial))


def test_an_engine_that_takes_no_weights_gets_a_second_one_beside_it_while_they_are_wanted() -> None:
    stiff = replace(R1, max_adapter_rank=0, in_place=False)
    snapshot = replace(SETTLED, rollout=PROMOTING_ONE, replicas=(stiff, replace(stiff, id="r2")))
    assert plan(snapshot) == [BeginBeside("r1", "one")]
    begun = replace(stiff, swap_state="beside", desired_weights_id="one")
    assert plan(replace(snapshot, replicas=(begun, replace(stiff, id="r2")))) == []
    assert plan(replace(SETTLED, replicas=(begun,))) == [CallOffBeside("r1")]
