"""Brings a release to this machine and checks its seal. Nothing is handed to an engine that was not verified here."""

import asyncio
from pathlib import Path

from gateway.contracts.release import ADAPTER_FOLDER, DIFFERENCE_FOLDER, MERGED_FOLDER, REVERSE_FOLDER
from gateway.contracts.seal import BrokenSeal, verify_seal
from gateway.errors import AlignwayError
from gateway.storage.database import Database
from gateway.storage.tables import ReleaseRow

RUNS_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".so"}
"""Files that an engine might unpickle or run; a release holds safetensors and text."""

FileMarks = frozenset[tuple[str, int, int, int, int]]


class ReleaseUnusable(AlignwayError):
    """A release that must not be given to an engine: damaged, incomplete or gone."""

    code = "release_unusable"


class NoSuchAdapter(AlignwayError):
    """Nothing leads from the weights that an engine holds to the release it is to hold beside them."""

    code = "no_such_adapter"


class ReleaseFetcher:
    """Finds releases in a store that is a folder on this machine, and verifies them where they lie.

    A release is read through once, and again when the system's marks on any of its files have changed: large weights
    take longer to read than requests can be held back for an exchange.
    """

    def __init__(self, store: Path) -> None:
        self._store = store.resolve()
        self._verified_marks: dict[str, FileMarks] = {}

    async def weights(self, release: ReleaseRow) -> Path:
        """The folder of full weights; raises `ReleaseUnusable`."""
        if release.kind == "base":
            return _base(release)
        return await asyncio.to_thread(self._verified, release, MERGED_FOLDER)

    async def adapter(self, release: ReleaseRow, over: ReleaseRow) -> Path:
        """The folder of the adapter that gives `release` over the weights of `over`.

        Raises `ReleaseUnusable`, or `NoSuchAdapter`.
        """
        source, part = _adapter_between(release, over)
        return await asyncio.to_thread(self._verified, source, part)

    def _verified(self, release: ReleaseRow, part: str) -> Path:
        folder = (self._store / release.location).resolve()
        try:
            if self._store not in folder.parents:
                raise BrokenSeal(f"{folder} lies outside the release store {self._store}")
            self._verify_once(folder, release.id)
            if not (folder / part).is_dir():
                raise BrokenSeal(f"{folder} has no {part} folder")
            if unsafe := sorted(path.name for path in (folder / part).rglob("*") if path.suffix in RUNS_CODE):
                raise BrokenSeal(f"{folder / part} holds files that can run code: {', '.join(unsafe[:3])}")
        except (BrokenSeal, OSError) as error:
            raise ReleaseUnusable(
                f"release {release.name} is not served: {error}. Restore its folder from a backup, or promote another "
                "release (`alignway releases list`)"
            ) from error
        return folder / part

    def _verify_once(self, folder: Path, release_id: str) -> None:
        marks = _file_marks(folder)
        if self._verified_marks.get(release_id) != marks:
            verify_seal(folder, release_id)
            self._verified_marks[release_id] = marks


def _adapter_between(release: ReleaseRow, over: ReleaseRow) -> tuple[ReleaseRow, str]:
    if over.id == release.base_release_id:
        return release, ADAPTER_FOLDER
    if (release.manifest.get("difference") or {}).get("incumbent_id") == over.id:
        return release, DIFFERENCE_FOLDER
    if (over.manifest.get("reverse") or {}).get("incumbent_id") == release.id:
        return over, REVERSE_FOLDER
    raise NoSuchAdapter(f"no adapter leads from the weights of {over.name} to {release.name}")


def _file_marks(folder: Path) -> FileMarks:
    """What changes whenever a file is written to, replaced or renamed; the change time cannot be set at will."""
    stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return frozenset((str(path), at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for path, at in stats.items())


def _base(release: ReleaseRow) -> Path:
    folder = Path(release.location)
    if not (folder / "config.json").is_file():
        raise ReleaseUnusable(
            f"the base model {release.name} is not at {folder} (no config.json); restore the folder, or set `model` "
            "to one that exists (`alignway models pull ID` fetches one)"
        )
    return folder


class ReleaseLookup:
    """Releases by id: what the records say of them, and their verified folders."""

    def __init__(self, database: Database, fetcher: ReleaseFetcher) -> None:
        self._database = database
        self._fetcher = fetcher

    async def weights(self, release_id: str) -> Path:
        """The verified folder of full weights; raises `ReleaseUnusable`."""
        return await self._fetcher.weights(await self._row(release_id))

    async def adapter(self, release_id: str, over_id: str) -> Path:
        """The verified folder of the adapter over those weights; raises `ReleaseUnusable` or `NoSuchAdapter`."""
        return await self._fetcher.adapter(await self._row(release_id), await self._row(over_id))

    async def _row(self, release_id: str) -> ReleaseRow:
        async with self._database.read() as session:
            row = await session.get(ReleaseRow, release_id)
        if row is None:
            raise ReleaseUnusable(f"release {release_id} is not in the database; see `alignway releases list`")
        return row
