"""Which prompts are kept from training to measure it. Pure; `gateway/storage/pairs.py` stores what is decided."""

import hashlib
import hmac
from typing import Literal

SplitSide = Literal["train", "holdout"]


def split_side(key: bytes, alias: str, prompt_hash: str, holdout_share: float) -> SplitSide:
    """The side of a prompt: a keyed hash below `holdout_share` is holdout, so nobody without the key can aim at it.

    A larger share only adds prompts to the holdout: what is held out at 10 % is held out at 30 %.
    """
    digest = hmac.digest(key, f"{alias}\0{prompt_hash}".encode(), hashlib.sha256)
    return "holdout" if int.from_bytes(digest[:8]) < holdout_share * 2**64 else "train"


def holdout_share(held_out_pairs: int, *, start_pairs: int, start_share: float, share: float) -> float:
    """The share that a new prompt is held out with: `start_share` until the alias has `start_pairs` held out."""
    return start_share if held_out_pairs < start_pairs else share
