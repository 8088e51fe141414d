"""Is there room for what is about to be promoted?"""

import shutil
from pathlib import Path

from gateway.errors import AlignwayError


class NotEnoughDisk(AlignwayError):
    """The disk of the store is nearly full; nothing was begun."""

    status, type, code = 507, "server_error", "not_enough_disk"


def require_room(store: Path, min_free_mib: int) -> None:
    """Raise `NotEnoughDisk` if less than that is free where the store lies."""
    place = next(folder for folder in (store, *store.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free >> 20
    if free < min_free_mib:
        raise NotEnoughDisk(
            f"{place} has {free} MiB free, and {min_free_mib} MiB are needed (releases.min_free_disk_mib). Free some "
            "space, for instance with `alignway releases prune`, and ask again."
        )
