"""Where a training run goes: a pure rule over the devices of a machine and what is free there.

The aligner goes by it, and the dry run says by it what the aligner would do. Sizes are in bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from gateway.contracts.training import TrainingOptions

CPU = "cpu"
GIB = 1 << 30
FREE_SHARE = 0.9
"""Of what is free a run may have this much: engines beside it go on asking for memory now and then."""
_NF4_BYTES = 0.7
"""Of a number in 4 bits, with its share of scales and of layers that stay wide."""
_PROCESS_BYTES = GIB + GIB // 4
"""Of a training process that holds no model yet: half of it are torch and what comes with it."""
_MORE_THAN_WEIGHTS = 1.2
"""Weights alone train nothing: so much of them is the least for adapter, gradients and one pair at a time."""


class NoDevice(Exception):
    """No device may be used, or has room; the text says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Device(BaseModel):
    """One device of a machine, as it was when somebody looked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """`cpu`, or `cuda:6` as nvidia-smi numbers it."""
    label: str
    """What it is called by its maker."""
    total_bytes: NonNegativeInt
    free_bytes: NonNegativeInt
    uuid: str | None = None
    """By which CUDA finds it again, whatever the numbers."""

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.name} ({self.label}, {gib(self.free_bytes)} free)"


class Effort(BaseModel):
    """What the training of a run took, to judge the next one by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    peak_memory_bytes: NonNegativeInt
    """Of the training process, on that device."""
    train_seconds: PositiveFloat
    """Of the steps alone, in the last process that made some."""
    steps: PositiveInt
    """Made by that process."""
    began_at: float
    """When the attempt began that came to the end, in unix seconds."""


@dataclass(frozen=True)
class Place:
    """A device, and how much of its memory a run may have."""

    device: Device
    budget_bytes: int
    reason: str


@dataclass(frozen=True)
class Need:
    """What a run needs of a device."""

    options: TrainingOptions
    parameters: int | None
    """Numbers in the base; None: unknown."""
    usual_bytes: int | None = None
    """What earlier runs took."""

    def least_bytes(self, device_name: str) -> int:
        """With less it cannot train, as far as that is known."""
        weights = _MORE_THAN_WEIGHTS * (self.parameters or 0) * self._each(device_name)
        return int(weights) + (_PROCESS_BYTES if device_name == CPU else 0)

    def _each(self, device_name: str) -> float:
        if self.options.quantize:
            return _NF4_BYTES
        wide = self.options.dtype == "float32" or (self.options.dtype == "auto" and device_name == CPU)
        return 4 if wide else 2


def place(names: Sequence[str], devices: Sequence[Device], need: Need) -> Place:
    """The device with most free memory of those that may be used: those named, or all, GPUs before the processor.

    Raises `NoDevice` if none may be used, or has enough. With less than usual a run scores fewer tokens at a time.
    """
    device = max(_usable(names, devices, need.options.device), key=lambda one: one.free_bytes)
    budget, least = int(FREE_SHARE * device.free_bytes), need.least_bytes(device.name)
    if budget < least:
        raise NoDevice(
            f"{device.shown} has most memory free of what may be used, and training takes {gib(least)} at least; free "
            "some memory, name another device in aligner.devices, let it borrow an engine's (aligner.devices = "
            '"borrow"), or train a smaller model'
        )
    reason = f"{device.shown} may give {gib(budget)}"
    if need.usual_bytes is not None and budget < need.usual_bytes:
        reason += f"; earlier runs took {gib(need.usual_bytes)}, so fewer tokens are scored at a time"
    return Place(device, budget, reason)


def gib(size: int) -> str:
    """`3.4 GiB`."""
    return f"{size / GIB:.1f} GiB"


def _usable(names: Sequence[str], devices: Sequence[Device], wanted: str) -> list[Device]:
    here = ", ".join(device.name for device in devices) or "none"
    if unknown := [name for name in names if name not in {device.name for device in devices}]:
        raise NoDevice(f"aligner.devices names {', '.join(unknown)}, and this machine has: {here}")
    allowed = [device for device in devices if not names or device.name in names]
    kind = CPU if wanted == "npu" else wanted  # its memory is not watched here; the processor's is
    fitting = [device for device in allowed if kind in ("auto", device.name.partition(":")[0])]
    if not fitting:
        raise NoDevice(
            f"the run asks for the device {wanted}, and may use: {', '.join(one.name for one in allowed) or 'none'}; "
            "leave the option `device` out, or change aligner.devices"
        )
    return [device for device in fitting if device.name != CPU] or fitting
