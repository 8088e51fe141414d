"""What libraries would import for work that is never done here, left out: training starts a fifth sooner."""

import contextlib
import sys
from collections.abc import Iterator

LEFT_OUT = ("sklearn", "scipy", "pandas", "datasets")
"""transformers asks for them: for assisted generation, models of pictures and tables, and its own data loading."""


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Have the libraries that are imported in the block, for the first time, believe that these are not installed.

    Only for processes that are wholly ours: transformers remembers what it found. After the block they can be imported.
    """
    hidden = [name for name in LEFT_OUT if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
