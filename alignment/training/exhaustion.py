"""What a machine runs out of while it trains: memory, or room on a disk. Found in many errors, told in words."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from alignment.errors import AlignmentError, DiskTooFull, OutOfMemory
from alignment.files import folder_bytes
from alignment.training.checkpoints import remove_unfinished, sealed_checkpoints, step_of

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (
    "No space left on device", "File too large", "Disk quota exceeded", "PytorchStreamWriter failed", "unexpected pos",
)  # fmt: skip
"""safetensors and torch write by themselves and keep only words of what went wrong."""
_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "std::bad_alloc", "Cannot allocate memory", "can't start new thread",
    "failed to map segment", "cannot map zero-fill pages", "out of memory",
)  # fmt: skip
"""Torch says it in words; where there was no room to load torch, the loader does."""


@contextlib.contextmanager
def exhaustion_told(folder: Path) -> Iterator[None]:
    """Raise `DiskTooFull` or `OutOfMemory`, with what to do, for whatever error says that something ran out."""
    try:
        yield
    except AlignmentError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise DiskTooFull(_no_room(folder)) from error
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"memory ran out before or between steps ({_first_line(error)}); free some memory, train a smaller "
                "model, or halve what the base takes with --dtype bfloat16"
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says so. Does not load torch, for which there may be no room."""
    return isinstance(error, MemoryError) or _says(error, _MEMORY_WORDS)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, is of a disk without room or of a file that may not grow."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return _says(error, _FULL_WORDS) or is_disk_full(error.__cause__ or error.__context__)


def _no_room(folder: Path) -> str:
    """What to free, and what is not lost."""
    largest = max((folder_bytes(checkpoint) for checkpoint in folder.glob("checkpoint-*")), default=0)
    remove_unfinished(folder)  # it is of no use, and takes room
    wanted = f"about {3 * largest / 1e6:.0f} MB (three checkpoints)" if largest >= 1e6 else "some space"
    free = shutil.disk_usage(folder if folder.is_dir() else folder.parent).free
    sealed = sealed_checkpoints(folder)
    saved = f"the checkpoint of step {step_of(sealed[0])} there is whole" if sealed else "no checkpoint is written yet"
    return (
        f"there is no room to write in {folder} ({free / 1e6:.0f} MB free, or files may grow no further); free "
        f"{wanted} there; {saved}"
    )


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
