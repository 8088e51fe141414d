"""Which prompts are held out."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from gateway.datasets.split import holdout_share, split_side

KEY = b"k" * 32
HASHES = [f"ph_{number:032x}" for number in range(4000)]


def held_out(share: float, alias: str = "assistant", key: bytes = KEY) -> set[str]:
    return {prompt for prompt in HASHES if split_side(key, alias, prompt, share) == "holdout"}


def test_the_share_is_met() -> None:
    # 4 standard deviations of a binomial with 4000 trials: 116 around 1200, 76 around 400
    assert abs(len(held_out(0.3)) - 1200) < 116
    assert abs(len(held_out(0.1)) - 400) < 76
    assert held_out(0.0) == set()


def test_what_is_held_out_at_a_small_share_is_held_out_at_a_larger_one() -> None:
    assert held_out(0.1) < held_out(0.3)


def test_aliases_and_deployments_split_each_in_their_own_way() -> None:
    assert held_out(0.3) != held_out(0.3, alias="other")
    assert held_out(0.3) != held_out(0.3, key=b"x" * 32)


def test_the_side_is_the_keyed_hash_compared_with_the_share() -> None:
    digest = hmac.new(KEY, b"assistant\x00ph_1", hashlib.sha256).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    assert split_side(KEY, "assistant", "ph_1", place + 1e-9) == "holdout"
    assert split_side(KEY, "assistant", "ph_1", place - 1e-9) == "train"


@given(st.text(), st.floats(0, 0.5))
def test_the_same_prompt_always_falls_on_the_same_side(prompt: str, share: float) -> None:
    assert split_side(KEY, "a", prompt, share) == split_side(KEY, "a", prompt, share)


def test_more_is_held_out_until_there_is_enough_to_measure_on() -> None:
    shares = [holdout_share(held, start_pairs=100, start_share=0.3, share=0.1) for held in (0, 99, 100, 5000)]
    assert shares == [0.3, 0.3, 0.1, 0.1]
