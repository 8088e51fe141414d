"""How much memory is free for training, and how much it took, in bytes."""

import resource
import sys

import psutil
import torch


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
    return int(min(available, max(0, limit - psutil.Process().memory_info().data)))


def peak_bytes(device: torch.device) -> int:
    """The most this process had on the device."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
