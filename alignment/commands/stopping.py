"""Ctrl-C or SIGTERM ends a training behind a checkpoint, so that nothing of it is lost."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import typer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stopping_softly(what_happens: str) -> Iterator[Callable[[], bool]]:
    """Yields a question: was the process told to stop? Told once more, it ends at once. In the main thread only."""
    told = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for one, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(one, handler)
        typer.echo(f"\n{what_happens}; once more ends at once", err=True)

    before = [signal.signal(one, on_signal) for one in _SIGNALS]
    try:
        yield lambda: told
    finally:
        for one, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(one, handler)
