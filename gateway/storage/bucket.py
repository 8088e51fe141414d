"""Releases in a bucket: what the aligner uploads, seal last, and every agent fetches and verifies before it is used.

Works through fsspec, so it blocks: call it from a thread. A release that has no seal in the bucket does not exist.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from gateway.contracts.release import ADAPTER_FOLDER, MERGED_FOLDER
from gateway.contracts.seal import SEAL_FILE, BrokenSeal, file_sha256, verify_seal
from gateway.errors import Unavailable

BLOCK_BYTES = 8 << 20
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5
SEAL_LIMIT_BYTES = 4 << 20
FETCH_PREFIX = ".fetching-"
LOCK_FILE = ".fetching.lock"

T = TypeVar("T")


class BucketAway(Unavailable):
    """The bucket does not answer, or refuses us."""

    code = "store_unavailable"


class Bucket:
    """The releases under one address, such as `s3://bucket/prefix`."""

    def __init__(self, url: str, endpoint_url: str | None = None, pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._endpoint_url = endpoint_url
        self._pause_seconds = pause_seconds
        self._opened: tuple[Any, str] | None = None

    def holds(self, location: str) -> bool:
        """Whether a sealed release lies there."""
        return bool(self._try(lambda files, root: files.exists(f"{root}/{location}/{SEAL_FILE}")))

    def upload(self, folder: Path, location: str) -> None:
        """Upload a sealed folder, its seal last; what was there before is no release from the first file on."""
        seal = (folder / SEAL_FILE).read_bytes()
        place = f"{location}/{SEAL_FILE}"
        if self.holds(location):
            if self._read(place, SEAL_LIMIT_BYTES) == seal:
                return
            self._try(lambda files, root: files.rm_file(f"{root}/{place}"))
        for path in sorted(item for item in folder.rglob("*") if item.is_file() and item.name != SEAL_FILE):
            self._put(path, f"{location}/{path.relative_to(folder).as_posix()}")
        self._put(folder / SEAL_FILE, place)

    def fetch(self, location: str, folder: Path, release_id: str, spare_bytes: int) -> None:
        """Bring a release to `folder`, whole and verified, or raise `BrokenSeal` or `BucketAway`.

        Goes on from what a fetch that was cut off left behind.
        """
        staging = folder.with_name(FETCH_PREFIX + folder.name)
        staging.parent.mkdir(parents=True, exist_ok=True)
        with _alone(staging):
            if (folder / SEAL_FILE).is_file():
                return  # somebody else fetched it meanwhile
            seal = self._seal(location)
            sealed = _sealed_files(seal, location)
            _check_room(staging, sum(size for size, _ in sealed.values()), spare_bytes)
            _drop_strangers(staging, sealed)
            for name, (size, sha256) in sealed.items():
                self._fetch_file(f"{location}/{name}", staging / name, size, sha256)
            (staging / SEAL_FILE).write_bytes(seal)
            _verify(staging, release_id)
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)

    def read_text(self, place: str, limit_bytes: int) -> str:
        """A small file, at most so much of it. Raises `FileNotFoundError` or `BucketAway`."""
        return self._read(place, limit_bytes).decode()

    def remove_weights(self, location: str) -> None:
        """Remove the seal, then the weights; the card stays. Done already is done again."""
        for place in (f"{location}/{SEAL_FILE}", f"{location}/{MERGED_FOLDER}", f"{location}/{ADAPTER_FOLDER}"):

            def remove(files: Any, root: str, place: str = place) -> None:
                if files.exists(f"{root}/{place}"):
                    files.rm(f"{root}/{place}", recursive=True)

            self._try(remove)

    def _seal(self, location: str) -> bytes:
        try:
            return self._read(f"{location}/{SEAL_FILE}", SEAL_LIMIT_BYTES)
        except FileNotFoundError as error:
            raise BrokenSeal(f"{self.url}/{location} has no {SEAL_FILE}; it was never finished, or is gone") from error

    def _fetch_file(self, place: str, path: Path, size: int, sha256: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size > size:
            path.unlink()
        path.touch()
        try:
            while (have := path.stat().st_size) < size:
                end = min(have + BLOCK_BYTES, size)
                block = self._read(place, end, have)
                if not block:
                    raise BrokenSeal(f"{self.url}/{place} is shorter than what was sealed")
                with path.open("ab") as file:
                    file.write(block)
        except FileNotFoundError as error:
            raise BrokenSeal(f"{self.url}/{place} is gone from the store") from error
        if file_sha256(path) != sha256:
            path.unlink()
            raise BrokenSeal(f"{self.url}/{place} differs from what was sealed")

    def _read(self, place: str, end: int, start: int = 0) -> bytes:
        return bytes(self._try(lambda files, root: files.cat_file(f"{root}/{place}", start=start, end=end)))

    def _put(self, path: Path, place: str) -> None:
        def put(files: Any, root: str) -> None:
            if "file" in files.protocol:
                files.makedirs(f"{root}/{PurePosixPath(place).parent}", exist_ok=True)
            files.put_file(str(path), f"{root}/{place}")

        self._try(put)

    def _try(self, work: Callable[[Any, str], T]) -> T:
        """Do it, again after a pause if the bucket stumbles."""
        for attempt in range(ATTEMPTS):
            try:
                return work(*self._open())
            except FileNotFoundError:
                raise
            except Exception as error:  # every kind of bucket has errors of its own
                if attempt == ATTEMPTS - 1 or isinstance(error, BucketAway):
                    raise BucketAway(
                        f"The release store {self.url} cannot be used: {type(error).__name__}: {error}. Is it up, and "
                        "may we read and write there (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)?"
                    ) from error
                time.sleep(self._pause_seconds * 2**attempt)
        raise AssertionError("unreachable")

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            try:
                from fsspec.core import url_to_fs

                self._opened = url_to_fs(self.url, **self._options())
            except ImportError as error:
                raise BucketAway(f"store.url = {self.url!r} needs `pip install 'alignway[s3]'` ({error})") from error
        return self._opened

    def _options(self) -> dict[str, Any]:
        if not self.url.startswith("s3://"):
            return {}
        patience = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True, "config_kwargs": patience}
        return options | ({"endpoint_url": self._endpoint_url} if self._endpoint_url else {})


def _sealed_files(seal: bytes, location: str) -> dict[str, tuple[int, str]]:
    """Size and checksum by name; a name that would leave the folder is refused."""
    try:
        files = json.loads(seal)["files"]
        found = {str(name): (int(entry["size_bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenSeal(f"{location}/{SEAL_FILE} is not a seal") from error
    for name, (size, _) in found.items():
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or not parts or size < 0:
            raise BrokenSeal(f"{location}/{SEAL_FILE} names {name!r}, which lies outside the release")
    return found


def _check_room(staging: Path, needed: int, spare_bytes: int) -> None:
    held = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    free = shutil.disk_usage(staging).free
    if needed - held + spare_bytes > free:
        raise BrokenSeal(
            f"not_enough_disk: it needs {needed - held + spare_bytes >> 20} MiB in {staging.parent}, which has "
            f"{free >> 20} MiB free; remove something there, or run `alignway releases prune`"
        )


def _drop_strangers(staging: Path, sealed: dict[str, tuple[int, str]]) -> None:
    for path in [item for item in staging.rglob("*") if item.is_file() or item.is_symlink()]:
        if path.is_symlink() or path.relative_to(staging).as_posix() not in sealed:
            path.unlink()


def _verify(staging: Path, release_id: str) -> None:
    try:
        verify_seal(staging, release_id)
    except BrokenSeal:
        shutil.rmtree(staging)
        raise


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """One thread of one process fetches releases of an alias; the lock goes with whoever dies."""
    with (staging.parent / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        staging.mkdir(exist_ok=True)
        yield
