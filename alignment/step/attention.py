"""Which attention a model runs under, for as long as a rung needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOT_UNDERSTOOD = ("s_aux", "position_bias")
"""What some models' attention does beside the softmax of scaled products."""


class NotUnderstood(Exception):
    """This model's attention does something that the rung cannot."""


@contextmanager
def attending(config: Any, name: str) -> Iterator[None]:
    """While it lasts, the model of this config attends the way that transformers knows by `name`."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def own_attention(config: Any) -> str:
    """What the model is loaded with; `eager` where that would leave out its soft cap without a word, as SDPA does."""
    name: str = config._attn_implementation
    return "eager" if is_soft_capped(config) and name == "sdpa" else name


def masked_attention(config: Any) -> str:
    """The model's own attention if that takes a mask of its own per row, else SDPA."""
    name = own_attention(config)
    return name if name in ("eager", "sdpa") else "sdpa"


def is_soft_capped(config: Any) -> bool:
    """Whether attention scores pass through cap * tanh(score / cap), as in Gemma 2."""
    return bool(getattr(config, "attn_logit_softcapping", None))


def refuse_unknown(others: dict[str, Any], *more: str) -> None:
    """Raise `NotUnderstood` if a layer asks for one of `NOT_UNDERSTOOD` or `more`."""
    asked = [name for name in (*NOT_UNDERSTOOD, *more) if others.get(name) is not None]
    if asked:
        raise NotUnderstood(f"its attention has {' and '.join(asked)}")
