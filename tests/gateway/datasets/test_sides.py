"""No prompt to train on resembles one to measure on, whatever the order in which they come."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datasets.shingles import are_near, shingles
from gateway.datasets.sides import Newcomers, Placed
from gateway.datasets.signatures import SIGNATURE_BYTES, Candidates, signature
from gateway.datasets.split import SplitSide, split_side

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]


def draw(prompt_hash: str) -> SplitSide:
    return split_side(b"key", "assistant", prompt_hash, 0.5)


def settle(batches: Sequence[Sequence[str]], *, anew: bool = True) -> list[Placed]:
    """The prompts of each batch, settled batch after batch; a prompt's hash is its text here.

    `anew`: what was settled before is told again, as after a restart.
    """
    settled: list[Placed] = []
    newcomers = Newcomers()
    for batch in batches:
        if anew:
            newcomers = Newcomers(settled)
        newcomers.take((text, text) for text in batch)
        settled += place(newcomers)
    return settled


def place(newcomers: Newcomers) -> list[Placed]:
    """Their places, where every hash is a text."""
    while wanted := newcomers.resembled():
        newcomers.learn({prompt: prompt for prompt in wanted})
    return list(newcomers.place(draw))


@st.composite
def families(draw_: st.DrawFn) -> list[str]:
    """Texts of which many resemble each other: a few beginnings, each with words exchanged, added or taken away."""
    texts = set()
    for _ in range(draw_(st.integers(1, 3))):
        base = draw_(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30))
        for _ in range(draw_(st.integers(1, 8))):
            words = list(base)
            for _ in range(draw_(st.integers(0, 2))):
                place = draw_(st.integers(0, len(words) - 1)) if words else 0
                words[place : place + draw_(st.integers(0, 1))] = draw_(st.lists(st.sampled_from(WORDS), max_size=1))
            texts.add(" ".join(words))
    return sorted(texts)


@given(families(), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_no_two_near_duplicates_lie_on_different_sides_in_any_order(
    texts: list[str], chance: random.Random, parts: int
) -> None:
    chance.shuffle(texts)
    cuts = sorted(chance.randrange(len(texts) + 1) for _ in range(parts - 1))
    placed = settle([texts[a:b] for a, b in zip([0, *cuts], [*cuts, len(texts)], strict=True)])
    used = [one for one in placed if not one.bridges]
    for number, one in enumerate(used):
        for other in used[:number]:
            if one.side != other.side:
                assert not are_near(one.prompt_hash, other.prompt_hash)


@given(families(), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_where_a_batch_ends_changes_nothing(texts: list[str], cut: int) -> None:
    parts = [texts[:cut], texts[cut:]]
    assert settle(parts) == settle(parts, anew=False) == settle([texts])


def test_a_near_duplicate_joins_the_side_and_the_cluster_of_the_oldest() -> None:
    base = "please tell me in a few words why the sky is blue today and not green at all"
    texts = [base, base + " ok", base + " ok then", "something else altogether, which nobody asked before"]
    one, two, three, other = settle([texts[:1], texts[1:]])
    assert {one.side, two.side, three.side} == {one.side}
    assert [two.cluster, three.cluster, other.cluster] == [base, base, texts[3]]


def test_a_prompt_that_resembles_both_sides_is_used_on_neither() -> None:
    words = [f"w{number}" for number in range(40)]
    left, right, middle = words[:34], words[6:], words[3:37]  # 30 shingles each; the middle shares 27 with either
    texts = [" ".join(one) for one in (left, right, middle)]
    sides: tuple[SplitSide, SplitSide] = ("train", "holdout")
    settled = [
        Placed(text, side, text, False, signature(shingles(text))) for text, side in zip(texts, sides, strict=False)
    ]
    assert not are_near(texts[0], texts[1])
    newcomers = Newcomers(settled, [(texts[2], texts[2])])
    assert newcomers.resembled() == {texts[0], texts[1]}
    newcomers.learn({text: text for text in texts[:2]})
    (placed,) = newcomers.place(draw)
    assert placed.bridges
    (again,) = place(Newcomers([*settled, placed], [("again", texts[2])]))
    assert again.bridges


def test_chinese_prompts_are_clustered_too() -> None:
    base = "请用三句话介绍一下中国古代四大发明以及它们对世界的影响"
    one, two = settle([[base], [base + "。谢谢"]])
    assert (two.side, two.cluster) == (one.side, base)


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_signatures_agree_about_as_much_as_texts_overlap(share: float) -> None:
    import numpy

    estimates = []
    for seed in range(200):
        common = {f"{seed} c{n}" for n in range(int(100 * share))}
        rest = (100 - len(common)) // 2
        one, other = (common | {f"{seed} {side}{n}" for n in range(rest)} for side in "lr")
        signed = [numpy.frombuffer(signature(texts), numpy.uint32) for texts in (one, other)]
        estimates.append(float((signed[0] == signed[1]).mean()))
    # The mean of 200 estimates of 128 values each has a standard error of 0.0025 at most.
    assert abs(sum(estimates) / 200 - share) < 0.015
    assert min(estimates) > 0.55


def test_a_signature_is_the_same_in_every_process() -> None:
    made = signature({"why is the sky blue", "is the sky blue today"})
    assert len(made) == SIGNATURE_BYTES
    assert made[:16].hex() == "62d0e0f9e0a577df567757edca12a7d2"


def test_of_many_that_resemble_each_other_the_earlier_ones_of_a_group_are_found_oldest_first() -> None:
    signed = signature({"a"}) * 100  # more than are looked at together
    candidates = Candidates(signed, bytes([0, 1] * 30))
    assert list(candidates.asked) == list(range(60, 100))
    candidates.settle(60, 1)
    assert list(candidates.before(99, 1, 0, 60)) == list(range(1, 60, 2))
    assert list(candidates.before(99, 1, 59, 99)) == [59, 60]
    assert list(candidates.before(99, 2, 0, 99)) == []
