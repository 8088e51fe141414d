"""Brings a release to this machine and checks its seal. Nothing is handed to an engine that was not verified here."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.agent.cache import ReleaseCache
from gateway.contracts.adapter_check import BadAdapter, Expected, check_adapter, check_weights
from gateway.contracts.release import (
    ADAPTER_FOLDER,
    DIFFERENCE_FOLDER,
    MANIFEST_FILE,
    MERGED_FOLDER,
    REVERSE_FOLDER,
    Release,
)
from gateway.contracts.seal import BrokenSeal, verify_seal, weights_sha256
from gateway.errors import AlignwayError
from gateway.storage.bucket import BucketAway
from gateway.storage.database import Database
from gateway.storage.tables import ReleaseRow

FileMarks = frozenset[tuple[str, int, int, int, int]]


class ReleaseUnusable(AlignwayError):
    """A release that must not be given to an engine: damaged, incomplete or gone."""

    code = "release_unusable"


@dataclass(frozen=True, slots=True)
class Fit:
    """What a release must fit: the base model its alias stands on."""

    base_sha256: str
    base_folder: Path | None


class NoSuchAdapter(AlignwayError):
    """Nothing leads from the weights that an engine holds to the release it is to hold beside them."""

    code = "no_such_adapter"


class ReleaseFetcher:
    """Finds releases in a folder on this machine, fetching them there if need be, and verifies them where they lie.

    A release is read through once, and again when the system's marks on any of its files have changed: large weights
    take longer to read than requests can be held back for an exchange.
    """

    def __init__(self, store: Path, cache: ReleaseCache | None = None) -> None:
        self._store = store.resolve()
        self._cache = cache
        self._verified: dict[str, tuple[FileMarks, Fit]] = {}

    async def weights(self, release: ReleaseRow, fit: Fit) -> Path:
        """The folder of full weights; raises `ReleaseUnusable`."""
        if release.kind == "base":
            return await asyncio.to_thread(self._base, release)
        return await asyncio.to_thread(self._part, release, fit, MERGED_FOLDER)

    async def adapter(self, release: ReleaseRow, over: ReleaseRow, fit: Fit) -> Path:
        """The folder of the adapter that gives `release` over the weights of `over`.

        Raises `ReleaseUnusable`, or `NoSuchAdapter`.
        """
        source, part, _ = adapter_between(release, over)
        return await asyncio.to_thread(self._part, source, fit, part)

    def _part(self, release: ReleaseRow, fit: Fit, part: str) -> Path:
        if release.pruned_at is not None:
            raise ReleaseUnusable(
                f"release {release.name} is not served: its weights were removed to save room; promote another release "
                "(`alignway releases list`)"
            )
        folder = (self._store / release.location).resolve()
        try:
            if self._store not in folder.parents:
                raise BrokenSeal(f"{folder} lies outside the release store {self._store}")
            self._bring(folder, release, fit)
            if not (folder / part).is_dir():
                raise BrokenSeal(f"{folder} has no {part} folder")
        except BadAdapter as error:
            raise ReleaseUnusable(f"release {release.name} is not served: {error}") from error
        except BucketAway as error:
            raise ReleaseUnusable(f"release {release.name} is not served: {error.message}") from error
        except (BrokenSeal, OSError) as error:
            raise ReleaseUnusable(
                f"release {release.name} is not served: {error}. Restore its folder from a backup, or promote another "
                "release (`alignway releases list`)"
            ) from error
        return folder / part

    def _base(self, release: ReleaseRow) -> Path:
        """A base model's folder; one that was added later is read through as any release is."""
        folder = _base(release)
        found = (_file_marks(folder), Fit("", None))
        if "added_because" in release.manifest and self._verified.get(release.id) != found:
            try:
                check_weights(folder, links_allowed=True)
            except BadAdapter as error:
                raise ReleaseUnusable(f"release {release.name} is not served: {error}") from error
            if weights_sha256(folder) != release.manifest["base"]["weights_sha256"]:
                raise ReleaseUnusable(
                    f"release {release.name} is not served: the weights in {folder} are not those that were added. "
                    "Restore them, or add the model again under `alignway releases add`"
                )
            self._verified[release.id] = found
        return folder

    def _bring(self, folder: Path, release: ReleaseRow, fit: Fit) -> None:
        """Verify the release; one that is not here, or not whole, is fetched once."""
        if self._cache is None:
            self._verify_once(folder, release, fit)
            return
        self._cache.bring(folder, release.location, release.id)
        try:
            self._verify_once(folder, release, fit)
        except BrokenSeal:
            self._cache.renew(folder, release.location, release.id)
            self._verify_once(folder, release, fit)
        self._cache.used(folder, release.location)

    def _verify_once(self, folder: Path, release: ReleaseRow, fit: Fit) -> None:
        found = (_file_marks(folder), fit)
        if self._verified.get(release.id) != found:
            verify_seal(folder, release.id)
            check_release(folder, release, fit)
            self._verified[release.id] = found


def check_release(folder: Path, release: ReleaseRow, fit: Fit) -> None:
    """Raise `BadAdapter` unless what was sealed is what the records say, harmless, and fits its base."""
    try:
        manifest = Release.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadAdapter(f"its {MANIFEST_FILE} cannot be read") from error
    if (manifest.id, manifest.adapter_rank) != (release.id, release.adapter_rank):
        raise BadAdapter(
            f"its {MANIFEST_FILE} is of {manifest.id} at rank {manifest.adapter_rank}, the records say {release.id} "
            f"at rank {release.adapter_rank}"
        )
    ranks = {ADAPTER_FOLDER: manifest.adapter_rank}
    ranks |= {DIFFERENCE_FOLDER: manifest.difference.rank} if manifest.difference else {}
    ranks |= {REVERSE_FOLDER: manifest.reverse.rank} if manifest.reverse else {}
    for part in (ADAPTER_FOLDER, DIFFERENCE_FOLDER, REVERSE_FOLDER):
        if (folder / part).is_dir():
            expected = Expected(ranks.get(part, 0), manifest.base.weights_sha256, fit.base_sha256, fit.base_folder)
            check_adapter(folder / part, expected)
    if (folder / MERGED_FOLDER).is_dir():
        check_weights(folder / MERGED_FOLDER)


def adapter_between(release: ReleaseRow, over: ReleaseRow) -> tuple[ReleaseRow, str, int]:
    """The release whose folder holds the adapter from the weights of `over` to `release`, where in it, and its rank."""
    if over.id == release.base_release_id:
        return release, ADAPTER_FOLDER, release.adapter_rank or 0
    difference, reverse = release.manifest.get("difference") or {}, over.manifest.get("reverse") or {}
    if difference.get("incumbent_id") == over.id:
        return release, DIFFERENCE_FOLDER, difference["rank"]
    if reverse.get("incumbent_id") == release.id:
        return over, REVERSE_FOLDER, reverse["rank"]
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
        return await self._fetcher.weights(*await self._rows(release_id))

    async def adapter(self, release_id: str, over_id: str, largest_rank: int) -> Path:
        """The verified folder of the adapter over those weights, for an engine with room for `largest_rank`.

        Raises `ReleaseUnusable` or `NoSuchAdapter`.
        """
        (release, _), (over, _) = await self._rows(release_id), await self._rows(over_id)
        source, _, rank = adapter_between(release, over)
        _, fit = await self._rows(source.id)  # not of `release`: that is the base itself on the way back to it
        if rank > largest_rank:
            raise ReleaseUnusable(
                f"the adapter of release {release.name} is of rank {rank}, and the engine holds adapters up to "
                f"{largest_rank}; set `engine.max_adapter_rank = {rank}` and start it again"
            )
        return await self._fetcher.adapter(release, over, fit)

    async def _rows(self, release_id: str) -> tuple[ReleaseRow, Fit]:
        async with self._database.read() as session:
            row = await session.get(ReleaseRow, release_id)
            base = await session.get(ReleaseRow, row.base_release_id) if row and row.base_release_id else None
        if row is None:
            raise ReleaseUnusable(f"release {release_id} is not in the database; see `alignway releases list`")
        if base is None:
            return row, Fit("", None)
        return row, Fit(str(base.manifest["base"]["weights_sha256"]), Path(base.location) if base.location else None)
