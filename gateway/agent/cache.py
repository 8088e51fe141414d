"""Releases of a bucket on this machine: fetched when they are wanted, removed when others are wanted instead."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import structlog

from gateway.contracts.seal import SEAL_FILE
from gateway.storage.bucket import Bucket, BucketAway

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReleaseCache:
    """The bucket, and how much of it is kept here."""

    bucket: Bucket
    keep: int
    """So many releases of an alias, the last used first."""
    spare_bytes: int
    """To be left free on the disk."""

    def bring(self, folder: Path, location: str, release_id: str) -> None:
        """Fetch the release unless it is here. Raises `BrokenSeal` or `BucketAway`."""
        if not (folder / SEAL_FILE).is_file():
            self.bucket.fetch(location, folder, release_id, self.spare_bytes)
            log.info("release_fetched", release=release_id, store=self.bucket.url)

    def renew(self, folder: Path, location: str, release_id: str) -> None:
        """Fetch the release anew: what is here is damaged. It is given up only for one that the bucket has."""
        if self.bucket.holds(location):
            (folder / SEAL_FILE).unlink(missing_ok=True)
        self.bring(folder, location, release_id)

    def used(self, folder: Path, location: str) -> None:
        """Note that the release is used, and remove those that were not for the longest time."""
        os.utime(folder)
        here = [path.parent for path in folder.parent.glob(f"*/{SEAL_FILE}")]
        here.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in here[self.keep :]:
            self._forget(old, str(PurePosixPath(location).with_name(old.name)))

    def _forget(self, folder: Path, location: str) -> None:
        try:
            if not self.bucket.holds(location):
                return  # the only copy
        except BucketAway:
            return
        (folder / SEAL_FILE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("release_forgotten", release=folder.name)
