"""Which checkpoints can be trusted: a checkpoint counts once a marker says that all of it is on disk."""

import shutil
from pathlib import Path

from alignment.files import flush_tree

_MARKER = "COMPLETE"


def mark_complete(checkpoint: Path) -> None:
    """Put a checkpoint on disk, then say so; a process killed before leaves no marker."""
    flush_tree(checkpoint)
    (checkpoint / _MARKER).touch()
    flush_tree(checkpoint)


def newest_complete(folder: Path) -> Path | None:
    """The checkpoint of the most steps that is whole; the halves that a killed process left are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / _MARKER).is_file():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """How many steps were done when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def discard_all(folder: Path) -> None:
    """Remove every checkpoint; a finished run has its adapter."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
