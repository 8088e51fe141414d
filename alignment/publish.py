"""Turn what a run made into a release: write the files, then the seal, then let the folder appear under its name.

Until the last rename the folder is hidden and unsealed, so a crash at any point leaves nothing that could be served.
Announcing the release in the database comes after, in the transaction that ends the run.
"""

import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alignment.card import model_card
from alignment.errors import AdapterUnfit, DiskTooFull
from alignment.files import folder_bytes, fresh_folder, make_readable, rename_into_place
from alignment.gate.report import write_report
from alignment.training.curves import CURVES_FILE, plot_curves
from gateway.contracts.adapter_check import BadAdapter, Expected, check_adapter, check_weights
from gateway.contracts.gate_report import GateReport, report_of
from gateway.contracts.release import ADAPTER_FOLDER, CARD_FILE, MANIFEST_FILE, MERGED_FOLDER, Release
from gateway.contracts.seal import BrokenSeal, verify_seal, write_seal

RELEASES_FOLDER = "releases"
_STAGING_PREFIX = ".staging-"
SPARE_BYTES = 512 << 20
"""What is to be left free beside the merged weights, unless the settings say otherwise."""
_SHOWN_VERSIONS = ("alignway", "torch", "transformers", "peft", "accelerate", "safetensors")


def release_location(alias: str, release_id: str) -> str:
    """Where a release lies, relative to the store."""
    return f"{RELEASES_FOLDER}/{alias}/{release_id}"


def stage(store: Path, alias: str, release_id: str, base_folder: Path, spare_bytes: int = SPARE_BYTES) -> Path:
    """An empty hidden folder beside the release's place; whatever earlier attempts of the alias left is removed.

    Only the holder of the alias's run may call it. Raises `DiskTooFull` if the merged weights would not fit.
    """
    folder = (store / release_location(alias, release_id)).parent
    remove_unfinished(folder)
    staging = fresh_folder(folder / f"{_STAGING_PREFIX}{release_id}")
    check_room(staging, base_folder, spare_bytes)
    return staging


def remove_unfinished(alias_folder: Path) -> None:
    """Remove what a crash left half written."""
    for leftover in alias_folder.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def publish(
    staging: Path,
    store: Path,
    release: Release,
    adapter: Path,
    curve: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    base_folder: Path,
    report: GateReport | None = None,
) -> str:
    """Finish a staged folder that already holds the merged weights, and give it its name; returns its location.

    Raises `AdapterUnfit` for an adapter that no engine agent would load.

    curve  the run's metrics, a dictionary a step, for the plot.
    facts  what the card tells besides the manifest: the data set's card, the options and why they are so.
    report  of its gates; by default what the release itself says of them.
    """
    shutil.copytree(adapter, staging / ADAPTER_FOLDER)
    _check(staging, release, base_folder)
    (staging / MANIFEST_FILE).write_text(release.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (staging / CARD_FILE).write_text(model_card(release, facts, software_versions()), encoding="utf-8")
    write_report(staging, report or report_of(release))
    if curve:
        plot_curves(curve, staging / CURVES_FILE)
    make_readable(staging)
    write_seal(staging, release.id)
    location = release_location(release.alias, release.id)
    rename_into_place(staging, store / location)
    return location


def _check(staging: Path, release: Release, base_folder: Path) -> None:
    """The same checks as before a load: what is published can be served."""
    base = release.base.weights_sha256
    try:
        check_adapter(staging / ADAPTER_FOLDER, Expected(release.adapter_rank, base, base, base_folder))
        check_weights(staging / MERGED_FOLDER)
    except BadAdapter as error:
        raise AdapterUnfit(f"the trained adapter is not published: {error}") from error


def published_release(store: Path, alias: str, release_id: str) -> Release | None:
    """The release of a run that got as far as its folder, but was cut off before it was announced.

    A folder under this name with a broken seal (from a failing disk, say) is removed, so that it is made anew.
    """
    folder = store / release_location(alias, release_id)
    if not folder.is_dir():
        return None
    try:
        verify_seal(folder, release_id)
    except BrokenSeal:
        shutil.rmtree(folder)
        return None
    return Release.model_validate_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))


def software_versions() -> dict[str, str]:
    """What a release was made with."""
    found = {"python": platform.python_version()}
    for name in _SHOWN_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_room(place: Path, base_folder: Path, spare_bytes: int) -> None:
    """Raise `DiskTooFull` if merged weights as large as the base would not fit beside `place`."""
    needed = folder_bytes(base_folder) + spare_bytes
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DiskTooFull(
            f"a release needs {needed / 1e9:.1f} GB in {place}, which has {free / 1e9:.1f} GB free; "
            "free some space there, or remove old releases with `alignway releases prune`, and train again"
        )
