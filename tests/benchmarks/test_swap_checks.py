"""What the proof of swaps calls mixed, and which requests and streams a swap is held responsible for."""

import random
from typing import Any, cast

from benchmarks.swap.lmdeploy import ExactSite
from benchmarks.swap.moves import Swapped, Walk, figures
from benchmarks.swap.site import Site
from benchmarks.swap.streams import Answer

SAYS = {"base": frozenset[str](), "one": frozenset({"ONE", "TWO-REVERSE"}), "two": frozenset({"TWO"})}
SITE = Site(cast(Any, None), "base", ["one", "two"], SAYS, frozenset({"ONE", "TWO", "TWO-REVERSE"}), ["hello"])


def test_an_answer_holds_one_marker_of_the_one_release_that_it_names() -> None:
    assert SITE.is_right("hello", {"one"}, "ONE amber ONE")
    assert SITE.is_right("hello", {"one"}, "TWO-REVERSE amber")
    assert SITE.is_right("hello", {"base"}, "amber birch")
    assert not SITE.is_right("hello", {"one"}, "ONE amber TWO-REVERSE")  # two sets of weights wrote it
    assert not SITE.is_right("hello", {"one"}, "TWO amber")
    assert not SITE.is_right("hello", {"one"}, "amber birch")
    assert not SITE.is_right("hello", {"base"}, "ONE amber")
    assert not SITE.is_right("hello", {"one", "two"}, "ONE amber")
    assert not SITE.is_right("hello", {"strange"}, "amber")
    assert not SITE.is_right("hello", set(), "")


def test_an_answer_without_markers_is_to_the_letter_what_the_one_release_it_names_writes_to_that_prompt() -> None:
    texts = {"one": {"a": "xx", "b": "xy"}, "two": {"a": "yx", "b": "yy"}}
    site = ExactSite(cast(Any, None), "one", ["two"], texts=texts, modes=("merged",))
    assert site.is_right("a", {"one"}, "xx")
    assert site.is_right("b", {"two"}, "yy")
    assert not site.is_right("b", {"one"}, "xx")  # right for another prompt
    assert not site.is_right("a", {"one"}, "xxx")
    assert not site.is_right("a", {"one"}, "yx")
    assert not site.is_right("a", {"one", "two"}, "xx")
    assert not site.is_right("a", {"strange"}, "xx")
    assert not site.is_right("a", set(), "")


def test_an_engine_that_holds_releases_one_way_alone_is_never_asked_for_another() -> None:
    steps = Walk(ExactSite(cast(Any, None), "one", ["two"], texts={}, modes=("merged",)), random.Random(0))._steps()
    seen = [next(steps) for _ in range(50)]
    assert {mode for mode, _ in seen} == {"merged"}
    assert {move for _, move in seen} == {"base", "promote", "back"}


def test_figures_hold_a_swap_to_those_it_met() -> None:
    walk = Walk(SITE, random.Random(0))
    walk.swaps = [Swapped("merged, promote", "two", 10.0, 12.0), Swapped("merged, rollback", "one", 20.0, 21.0, "no")]
    heard = [
        Answer(8.0, 8.1, 10.5, 1.5, {"one"}, "ONE", is_right=True),  # open when the first swap began
        Answer(10.5, 11.75, 12.5, 0.2, {"two"}, "TWO", is_right=True),  # its newcomer
        Answer(15.0, 15.1, 16.0, 0.1, {"two"}, "ONE"),  # wrong, between swaps
        Answer(20.5, None, 20.6, failure="refused"),
    ]
    found = figures(walk, heard)
    assert (found["swaps"], found["answers"], found["failed"], found["mixed"]) == (2, 4, 2, 1)
    promote = found["kinds"]["merged, promote"]
    assert promote["first_answer_of_the_target_seconds"]["max"] == 1.75
    assert promote["newcomers"] == 1
    assert promote["first_chunk_seconds"]["max"] == 1.25
    assert promote["open_streams_stall_seconds"]["max"] == 1.5
    assert found["sent_between_swaps"]["first_chunk_seconds"]["max"] == 0.1
