"""What an A/A run works on, looked up in the database: releases that were made, or a data set to train on twice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alignment.errors import AlignmentError
from alignment.freezing import DATASETS
from gateway.contracts.release import ADAPTER_FOLDER, BaseModelRef
from gateway.contracts.training import TrainingOptions
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE
from gateway.datasets.sources import ANSWERS
from gateway.storage.database import Database
from gateway.storage.datasets import find_dataset, list_datasets
from gateway.storage.feedback_tables import Dataset, Run
from gateway.storage.releases import list_releases
from gateway.storage.tables import Alias, ReleaseRow


@dataclass(frozen=True, slots=True)
class Made:
    """A release and what it was to replace, both on this machine."""

    name: str
    rival: str
    base_folder: Path
    candidate: Path
    """Its adapter."""
    incumbent: Path | None
    """The adapter it is compared with; None: the base."""
    pairs_file: Path
    max_length_tokens: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train again and again, with nothing changed but the seed."""

    dataset_id: str
    base_folder: Path
    base: BaseModelRef
    options: TrainingOptions
    train_file: Path
    pairs_file: Path


async def newest_made(database: Database, store: Path, alias: str) -> Made:
    """The newest release that can be compared. Raises `AlignmentError` if there is none."""
    async with database.read() as session:
        for row in await list_releases(session, alias):
            if row.kind == "aligned" and (made := await _made(session, store, row)) is not None:
                return made
    raise AlignmentError(
        f"{alias} has no trained release on this machine whose weights and held-out pairs are still there: nothing to "
        "compare. Train one (POST /admin/v1/retrain), or let two be trained here: alignway gates calibrate --seeds 2"
    )


async def newest_recipe(database: Database, store: Path, alias: str) -> Recipe:
    """The newest data set with held-out pairs, trained as it was before. Raises `AlignmentError` if there is none."""
    async with database.read() as session:
        for row in await list_datasets(session, alias):
            if _has_holdout(row, store):
                base = await _release(session, (await session.get_one(Alias, alias)).base_release_id)
                options = await _options(session, row.id)
                folder = store / DATASETS / row.id
                base_folder, reference = _base(base), BaseModelRef.model_validate(base.manifest["base"])
                files = (folder / TRAIN_FILE, folder / HOLDOUT_FILE)
                return Recipe(row.id, base_folder, reference, options, *files)
    raise AlignmentError(
        f"{alias} has no frozen data set with held-out pairs on this machine; freeze one: alignway dataset build"
    )


async def _made(session: AsyncSession, store: Path, row: ReleaseRow) -> Made | None:
    candidate = store / row.location / ADAPTER_FOLDER
    dataset_id: Any = row.manifest.get("dataset_id")
    dataset = await find_dataset(session, dataset_id) if dataset_id else None
    if row.pruned_at is not None or not candidate.is_dir() or dataset is None or not _has_holdout(dataset, store):
        return None
    rival = await _release(session, row.parent_id or row.base_release_id or "")
    incumbent = None if rival.kind == "base" else store / rival.location / ADAPTER_FOLDER
    if incumbent is not None and not incumbent.is_dir():
        return None
    base = await _release(session, row.base_release_id or row.parent_id or "")
    tokens = (await _options(session, dataset.id)).max_length_tokens
    pairs_file = store / DATASETS / dataset.id / HOLDOUT_FILE
    return Made(row.name, rival.name, _base(base), candidate, incumbent, pairs_file, tokens)


async def _release(session: AsyncSession, release_id: str) -> ReleaseRow:
    return await session.get_one(ReleaseRow, release_id)


def _base(row: ReleaseRow) -> Path:
    folder = Path(row.location)
    if not row.location or not folder.is_dir():
        raise AlignmentError(
            f"the base model {row.name} is not at {row.location or 'any place known'} on this machine; fetch it with "
            "`alignway models pull`, or calibrate where it lies"
        )
    return folder


def _has_holdout(row: Dataset, store: Path) -> bool:
    """Whether pairs are held out in it, and are still here."""
    held_out = row.removed_at is None and row.card.get("rows") != ANSWERS and row.card["holdout"]["pairs"]
    return bool(held_out) and (store / DATASETS / row.id / HOLDOUT_FILE).is_file()


async def _options(session: AsyncSession, dataset_id: str) -> TrainingOptions:
    """Those of the newest run on a data set."""
    statement = select(Run.options).where(Run.dataset_id == dataset_id).order_by(Run.created_at.desc()).limit(1)
    return TrainingOptions.model_validate(await session.scalar(statement) or {})
