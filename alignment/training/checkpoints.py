"""Which checkpoints can be trusted: a checkpoint counts once a seal, written last, names every file of it."""

import shutil
from pathlib import Path
from typing import NamedTuple

from alignment.errors import CheckpointDamaged
from gateway.contracts.seal import SEAL_FILE, BrokenSeal, verify_seal, write_seal

CHECKPOINT_SECONDS = 20.0
"""Between two checkpoints, unless a run is told otherwise."""
BEST = "best-"
"""And the step: the folder of the best adapter so far on held-out rows."""
_KEPT = 2
"""The older one is for the day on which the newer one is damaged."""


class Found(NamedTuple):
    """Where a run goes on."""

    newest: Path | None
    """None begins it."""
    notes: tuple[str, ...]
    """What was passed over, and why."""


def seal_checkpoint(checkpoint: Path) -> None:
    """Put a checkpoint on disk, then say so; a process killed before leaves no seal. Older ones are removed."""
    write_seal(checkpoint, checkpoint.name)
    for older in sealed_checkpoints(checkpoint.parent)[_KEPT:]:
        discard(older)


def find_newest(folder: Path) -> Found:
    """The checkpoint of the most steps that is what was written; halves that a killed process left are removed.

    A damaged one is removed where an older one is whole. Raises `CheckpointDamaged` where none is.
    """
    remove_unfinished(folder)
    damaged: dict[Path, str] = {}
    for checkpoint in sealed_checkpoints(folder):
        try:
            verify_seal(checkpoint, checkpoint.name)
        except BrokenSeal as error:
            damaged[checkpoint] = str(error).partition(";")[0]
            continue
        for other in damaged:
            discard(other)
        return Found(checkpoint, tuple(f"{why}: going on from step {step_of(checkpoint)}" for why in damaged.values()))
    if damaged:
        raise CheckpointDamaged(
            f"no checkpoint in {folder} is whole ({'; '.join(damaged.values())}); restore them, or remove "
            f"{' and '.join(checkpoint.name for checkpoint in damaged)} there to train from the beginning"
        )
    return Found(None, ())


def sealed_checkpoints(folder: Path) -> list[Path]:
    """Those that were finished, the newest first."""
    sealed = [checkpoint for checkpoint in folder.glob("checkpoint-*") if (checkpoint / SEAL_FILE).is_file()]
    return sorted(sealed, key=step_of, reverse=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the checkpoints that were not finished."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / SEAL_FILE).is_file():
            shutil.rmtree(checkpoint, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """How many steps were done when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def discard(checkpoint: Path) -> None:
    """The seal goes first: killed in the middle of this, a process leaves nothing that looks whole."""
    (checkpoint / SEAL_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def discard_all(folder: Path) -> None:
    """Remove every checkpoint; a finished run has its adapter."""
    for checkpoint in folder.glob("checkpoint-*"):
        discard(checkpoint)
    # What was kept of evaluations goes last: a run that goes on from a checkpoint may need it.
    for kept in folder.glob(f"{BEST}*"):
        shutil.rmtree(kept, ignore_errors=True)
