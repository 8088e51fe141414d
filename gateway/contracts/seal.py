"""The seal of a release: a checksum of every file, written last. A folder without a whole seal does not exist.

Shared by the aligner, which seals, and the engine agent, which verifies before it serves. Standard library only.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

SEAL_FILE = "SEAL.json"
_BLOCK_BYTES = 1 << 20


class BrokenSeal(Exception):
    """A release folder that must not be served: unsealed, damaged, or holding files the seal does not name."""


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def weights_sha256(folder: Path) -> str:
    """One digest over the names and bytes of a model's safetensors files, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def write_seal(folder: Path, release_id: str) -> None:
    """Checksum every file in `folder`, flush them to disk, and write the seal last, atomically."""
    files = {}
    for path in _files(folder):
        _flush(path)
        files[path.relative_to(folder).as_posix()] = {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
    seal = {"schema_version": 1, "release_id": release_id, "files": files}
    unfinished = folder / (SEAL_FILE + ".part")
    unfinished.write_text(json.dumps(seal, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _flush(unfinished)
    unfinished.rename(folder / SEAL_FILE)
    _flush(folder)


def verify_seal(folder: Path, release_id: str) -> None:
    """Raise `BrokenSeal`, saying what is wrong, unless `folder` is exactly what was sealed under `release_id`."""
    seal = _read_seal(folder)
    if seal.get("release_id") != release_id:
        raise BrokenSeal(f"{folder} is sealed as {seal.get('release_id')}, not as {release_id}")
    sealed: dict[str, dict[str, Any]] = seal["files"]
    if links := sorted(path.name for path in folder.rglob("*") if path.is_symlink()):
        raise BrokenSeal(f"{folder} holds links to elsewhere: {', '.join(links[:3])}")
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if strangers := sorted(found.keys() - sealed.keys()):
        raise BrokenSeal(f"{folder} holds files that were not sealed: {', '.join(strangers[:3])}")
    if missing := sorted(sealed.keys() - found.keys()):
        raise BrokenSeal(f"{folder} lacks sealed files: {', '.join(missing[:3])}")
    for name, path in found.items():
        if path.stat().st_size != sealed[name]["size_bytes"] or file_sha256(path) != sealed[name]["sha256"]:
            raise BrokenSeal(f"{path} differs from what was sealed; restore it from a backup or retrain")


def _read_seal(folder: Path) -> dict[str, Any]:
    try:
        seal = json.loads((folder / SEAL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenSeal(f"{folder} has no readable {SEAL_FILE}; it was never finished, or is damaged") from error
    if not isinstance(seal, dict) or not isinstance(seal.get("files"), dict):
        raise BrokenSeal(f"{folder / SEAL_FILE} is not a seal")
    return seal


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL_FILE)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
