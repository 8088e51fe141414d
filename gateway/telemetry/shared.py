"""The numbers of all gateway workers of this host, through files in one folder.

Each worker writes its snapshot there and holds a lock for as long as it lives: the kernel lets go of it however the
process ends, so that a process id used again deceives nobody. Whoever finds a lock free adds what that worker counted
to the file `departed`, once, and removes its files.
"""

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from msgspec import DecodeError, Struct
from msgspec.msgpack import Decoder, Encoder

from gateway.telemetry.snapshot import Snapshot, Totals, decode

T = TypeVar("T")
LABEL_KINDS = 3
LABEL_GRACE_SECONDS = 60.0
"""A label just let in may stand in no snapshot yet."""


class Departed(Struct, array_like=True):
    """What workers that are gone have counted."""

    folded: list[str] = []
    """Those already added whose files may still lie there: dying in between adds nobody twice."""
    snapshot: bytes = b""


class WorkerFiles:
    """One worker's place in the folder. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Take a place; the folder is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._written = -1
        self._writing = threading.Lock()
        with self._locked("lock"):
            self._alive = os.open(self._path("alive"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def write(self, number: int, snapshot: bytes) -> None:
        """Leave a snapshot for the others, unless one with a higher number is there already."""
        with self._writing:
            if number > self._written:
                _replace(self._path("snapshot"), snapshot)
                self._written = number

    def merged(self, own: bytes) -> Totals:
        """The sum over all workers, those gone included; of this one, `own` counts."""
        with self._locked("lock"):
            living = {name for name in self._names() if name != self._name and self._lives(name)}
            totals = self._fold(self._names() - living - {self._name})
            others = [_read(self._folder / f"{name}.snapshot") for name in living]
        for snapshot in others:
            totals.add(decode(snapshot) if snapshot else Snapshot(), alive=True)
        totals.add(decode(own), alive=True)
        return totals

    def forget(self, expired: set[tuple[str, str, str]]) -> None:
        """Leave out these series of what the departed counted."""
        with self._locked("lock"):
            departed = self._departed()
            totals = _sum_of(departed)
            kept = [meter for labels, meter in totals.meters.items() if labels not in expired]
            if len(kept) < len(totals.meters):
                totals.meters = {meter.labels: meter for meter in kept}
                self._keep(departed.folded, totals)

    def admit(self, kind: int, value: str, at_most: int, now: float) -> frozenset[str] | None:
        """Let a label value in if there is room; all that are in. None, at once: another worker is at it just now."""
        with self._locked("labels.lock", wait=False) as locked:
            if not locked:
                return None
            labels = self._labels()
            if value not in labels[kind] and len(labels[kind]) < at_most:
                labels[kind][value] = now
                _replace(self._folder / "labels", _encode(labels))
            return frozenset(labels[kind])

    def keep_labels(self, used: Sequence[set[str]], now: float) -> list[frozenset[str]]:
        """Make room: labels that no series has any more leave; those that stay."""
        with self._locked("labels.lock"):
            labels = [
                {
                    value: since
                    for value, since in held.items()
                    if value in used[kind] or now - since < LABEL_GRACE_SECONDS
                }
                for kind, held in enumerate(self._labels())
            ]
            _replace(self._folder / "labels", _encode(labels))
            return [frozenset(held) for held in labels]

    def close(self) -> None:
        """Leave: the next one who looks adds what was written last to what the departed counted."""
        os.close(self._alive)

    def _fold(self, gone: set[str]) -> Totals:
        """What the departed counted, those found gone just now among them; their files are removed."""
        departed = self._departed()
        totals = _sum_of(departed)
        for name in gone:
            if name not in departed.folded:
                totals.add(decode(_read(self._folder / f"{name}.snapshot")), alive=False)
        if gone:
            self._keep(sorted(gone), totals)
        for name in gone:
            for kind in ("snapshot.new", "snapshot", "alive"):
                (self._folder / f"{name}.{kind}").unlink(missing_ok=True)
        return totals

    def _names(self) -> set[str]:
        return {path.stem for kind in ("alive", "snapshot") for path in self._folder.glob(f"*.{kind}")}

    def _lives(self, name: str) -> bool:
        try:
            file = os.open(self._folder / f"{name}.alive", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def _departed(self) -> Departed:
        return _read_as(_departed_decoder, self._folder / "departed") or Departed()

    def _keep(self, folded: list[str], totals: Totals) -> None:
        _replace(self._folder / "departed", _encode(Departed(folded, _encode(totals.counts()))))

    def _labels(self) -> list[dict[str, float]]:
        return _read_as(_labels_decoder, self._folder / "labels") or [{} for _ in range(LABEL_KINDS)]

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._name}.{kind}"

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a lock; False where it is not waited for and somebody else has it."""
        file = os.open(self._folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(file)


_encode = Encoder().encode
_departed_decoder = Decoder(Departed)
_labels_decoder = Decoder(list[dict[str, float]])


def _sum_of(departed: Departed) -> Totals:
    totals = Totals()
    totals.add(decode(departed.snapshot) if departed.snapshot else Snapshot(), alive=False)
    return totals


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _read_as(decoder: Decoder[T], path: Path) -> T | None:
    with suppress(DecodeError):
        return decoder.decode(_read(path))
    return None


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)
