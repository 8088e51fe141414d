"""Where converted and fetched models are kept: the user's cache directory, shared by all data directories."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "ALIGNWAY_CACHE_DIR"


def cache_folder() -> Path:
    """The folder named by `ALIGNWAY_CACHE_DIR`, or the user's cache directory. It need not exist yet."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser().resolve() if given else Path(platformdirs.user_cache_dir("alignway"))


def models_folder() -> Path:
    """Where whole model folders are kept."""
    return cache_folder() / "models"
