"""The devices of this machine and what is free on them, without loading torch: the aligner itself stays small."""

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from gateway.contracts.placement import CPU, Device

QUERY = ("nvidia-smi", "--query-gpu=index,name,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")
_SECONDS = 10.0
_CGROUP = Path("/sys/fs/cgroup")
_UNWATCHED = (Path("/dev/kfd"), Path("/dev/davinci0"))
"""What ROCm and Ascend drivers bring: accelerators that nvidia-smi does not list."""


def find_devices(environment: Mapping[str, str] | None = None) -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES lets us see, as nvidia-smi numbers them, and the processor last."""
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    return [*_visible(read_gpus(_ask_driver()), visible), _processor()]


def has_unwatched_accelerator() -> bool:
    """Whether torch may find an accelerator here of which `find_devices` knows nothing."""
    return any(path.exists() for path in _UNWATCHED)


def read_gpus(table: str) -> list[Device]:
    """The lines of `QUERY`: index, name, UUID, and total and free memory in MiB. Others are passed over."""
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5 and cells[0].isdigit() and cells[3].isdigit() and cells[4].isdigit():
            total, free = (int(cell) << 20 for cell in cells[3:])
            name = f"cuda:{cells[0]}"
            found.append(Device(name=name, label=cells[1], uuid=cells[2], total_bytes=total, free_bytes=free))
    return found


def _visible(gpus: list[Device], visible: str | None) -> list[Device]:
    if visible is None:
        return gpus
    names = [name.strip() for name in visible.split(",")]
    return [gpu for gpu in gpus if any(_is_named(gpu, name) for name in names if name)]


def _is_named(gpu: Device, name: str) -> bool:
    return gpu.name == f"cuda:{name}" or (name.startswith("GPU-") and (gpu.uuid or "").startswith(name))


def _ask_driver() -> str:
    try:
        return subprocess.run(QUERY, capture_output=True, check=True, text=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> Device:
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    if (limit := _cgroup_limit()) is not None:
        total, free = min(total, limit[0]), min(free, limit[1])
    label = platform.processor() or platform.machine() or "processor"
    return Device(name=CPU, label=label, total_bytes=total, free_bytes=free)


def _cgroup_limit(folder: Path = _CGROUP) -> tuple[int, int] | None:
    """What a container may have in all, and what is left of it; None without a limit (or before cgroup v2)."""
    try:
        limit = int((folder / "memory.max").read_text())  # the word `max` is no number: no limit
        used = int((folder / "memory.current").read_text())
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        given_up = next(int(cells[1]) for cells in lines if cells[0] == "inactive_file")
    except (OSError, ValueError, StopIteration):
        return None
    return limit, max(0, limit - used + given_up)
