"""Files and folders that appear whole or not at all. Knows nothing of what is in them."""

import os
import shutil
from pathlib import Path

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


def make_readable(folder: Path) -> None:
    """Let every user of the machine read the folder: libraries write some files for their owner alone."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)


def flush_tree(folder: Path) -> None:
    """Put every file of the folder, and the folder itself, on disk."""
    for path in (*(item for item in folder.rglob("*")), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def rename_into_place(unfinished: Path, final: Path) -> None:
    """Make a finished folder appear under its name; the rename itself is put on disk."""
    unfinished.rename(final)
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(unfinished: Path, final: Path) -> None:
    """Put a finished folder on disk, and in the place of the one of that name, if there is one."""
    make_readable(unfinished)
    flush_tree(unfinished)
    if final.exists():
        shutil.rmtree(final)
    rename_into_place(unfinished, final)


def write_whole(path: Path, text: str) -> None:
    """Write a small file; readers, and whoever comes after a crash, find all of it or what was there before."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def fresh_folder(folder: Path) -> Path:
    """The folder, empty: whatever was there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def folder_bytes(folder: Path) -> int:
    """The sum of the sizes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
