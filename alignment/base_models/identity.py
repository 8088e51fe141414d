"""What a base model is called wherever it lies: public id, revision, and a digest of its weights."""

import json
from pathlib import Path

from pydantic import ValidationError

from alignment.base_models.cache import cache_folder
from alignment.errors import BaseModelMissing
from gateway.contracts.release import BaseModelRef
from gateway.contracts.seal import weights_sha256

_ORIGIN_FILE = "alignway-origin.json"


def write_origin(folder: Path, model: str, revision: str) -> None:
    """Say in the folder itself where its model is from."""
    (folder / _ORIGIN_FILE).write_text(json.dumps({"model": model, "revision": revision}) + "\n", encoding="utf-8")


def describe(folder: Path) -> BaseModelRef:
    """The public identity of the model in a folder; its digest is computed once and then remembered.

    Known are folders that say their origin, and those of the Hugging Face cache. Any other model is named
    `local/<folder>`, its revision the beginning of its digest. Raises `BaseModelMissing` if it has no safetensors.
    """
    folder = folder.resolve()
    digest = _weights_digest(folder)
    model, revision = _origin(folder) or _hub_origin(folder) or (f"local/{folder.name}", digest[:12])
    return BaseModelRef(model=model, revision=revision, weights_sha256=digest)


def _origin(folder: Path) -> tuple[str, str] | None:
    try:
        origin = json.loads((folder / _ORIGIN_FILE).read_text(encoding="utf-8"))
        return str(origin["model"]), str(origin["revision"])
    except (OSError, ValueError, KeyError):
        return None


def _hub_origin(folder: Path) -> tuple[str, str] | None:
    """The hub's cache lies as `models--<owner>--<name>/snapshots/<revision>`."""
    if folder.parent.name != "snapshots" or not folder.parent.parent.name.startswith("models--"):
        return None
    return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1), folder.name


def _weights_digest(folder: Path) -> str:
    """`weights_sha256`, read from the cache while names, sizes and times of the files are as they were."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelMissing(f"{folder} holds no safetensors weights; give the folder of a model in that format")
    seen = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    remembered = cache_folder() / "digests" / (str(folder).strip("/").replace("/", "--")[-200:] + ".json")
    try:
        known = json.loads(remembered.read_text(encoding="utf-8"))
        if known["folder"] == str(folder) and known["files"] == seen:
            return str(known["weights_sha256"])
    except (OSError, ValueError, KeyError, ValidationError):
        pass
    digest = weights_sha256(folder)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    unfinished = remembered.with_suffix(".part")
    unfinished.write_text(json.dumps({"folder": str(folder), "files": seen, "weights_sha256": digest}) + "\n")
    unfinished.replace(remembered)
    return digest
