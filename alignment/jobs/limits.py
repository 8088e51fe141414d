"""What the training process may take of the machine, set by itself when it begins: engines beside it come first."""

import os
import resource
import sys
from pathlib import Path

_NICENESS = 5
_FIRST_TO_GO = "1000"
"""As Linux counts: nothing is ended before this when memory runs out."""


def step_back() -> None:
    """Wait for engines where time is short, and end before them where memory is."""
    os.nice(_NICENESS)
    if sys.platform == "linux":
        try:
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
        except OSError:  # a kernel, or a sandbox, without it
            return


def limit_memory(size_bytes: int) -> None:
    """Let this process have no more memory of its own than this: an allocation beyond it fails, here and only here."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    size_bytes = size_bytes if most == resource.RLIM_INFINITY else min(size_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, most))


def limit_accelerator(share: float) -> None:
    """Let torch have at most this share, 0 to 1, of the one accelerator it sees. Loads torch."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), 0)
