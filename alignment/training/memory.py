"""How much memory is free for training, and how much it took, in bytes."""

import contextlib
import resource
import sys
from collections.abc import Iterator

import psutil
import torch

RESERVE_BYTES = 256 << 20
"""Of a limit, for what follows the steps."""


def free_bytes(device: torch.device) -> int:
    """What this process may still take on the device: of what is free, within the limits it was given."""
    if device.type == "cuda":
        share = torch.cuda.get_per_process_memory_fraction(device)
        free, total = torch.cuda.mem_get_info(device)
        return min(free, max(0, int(share * total) - torch.cuda.memory_reserved(device)))
    available = psutil.virtual_memory().available
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY or sys.platform != "linux":
        return int(available)
    return int(min(available, max(0, limit - RESERVE_BYTES - psutil.Process().memory_info().data)))


@contextlib.contextmanager
def reserve_kept() -> Iterator[None]:
    """Within the block a limit of this process is reached a little earlier.

    Steps are cut into parts until they just fit; what they had the process keeps. Saving and drawing come afterwards,
    and must not fail for want of a few megabytes.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (max(0, limit - RESERVE_BYTES), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def peak_bytes(device: torch.device) -> int:
    """The most this process had on the device."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
