"""The first step of a run: its data set, frozen from votes or from what it was given, or taken as it lies."""

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from alignment.errors import AlignmentError, NotEnoughPairs
from alignment.ledger import RunLedger
from alignment.publish import SPARE_BYTES
from gateway.contracts.methods import find_method
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND
from gateway.datasets.card import summary
from gateway.datasets.freeze import freeze, read_card
from gateway.datasets.given import freeze_given
from gateway.datasets.pair_file import read_lineage
from gateway.datasets.report import Card
from gateway.datasets.sources import UnusableSource
from gateway.formats.table import UnreadableRows
from gateway.redaction.configured import RedactPair
from gateway.sections.annotation import GUIDELINE, JudgeSettings
from gateway.sections.datasets import DatasetSettings
from gateway.sections.gates import GateSettings
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database
from gateway.storage.datasets import find_dataset, record_dataset
from gateway.storage.erasures import any_buried
from gateway.storage.feedback_tables import Dataset, Run

DATASETS = "datasets"
"""Their folder in the release store."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How pairs become a data set, what a candidate is held to, and where its release goes."""

    datasets: DatasetSettings = field(default_factory=DatasetSettings)
    redact: RedactPair | None = None
    """What is done to a pair before anybody trains on it."""
    gates: GateSettings = field(default_factory=GateSettings)
    """What a candidate is held to."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """The model that compares answers, where `gates.judge` is on."""
    guideline: str = GUIDELINE
    """What it is told to look for."""
    spare_bytes: int = SPARE_BYTES
    """What is to be left free on the disk of the store."""
    bucket: Bucket | None = None
    """Where releases are uploaded to, for agents on other machines."""


async def freeze_pairs(
    database: Database, store: Path, dataset_id: str, run: Run, rules: Rules, ledger: RunLedger
) -> Card:
    """The data set of the run: one that was frozen before, or a new one from its file or the pairs eligible now."""
    folder = store / DATASETS / dataset_id
    async with database.read() as session:
        found = await find_dataset(session, dataset_id)
    if found is not None and found.removed_at is not None:
        raise AlignmentError(f"the data set {found.id} was removed; train on {found.replaced_by or 'another one'}")
    if found is not None:
        return await asyncio.to_thread(read_card, folder)
    now = datetime.now(UTC).timestamp()
    card = await _freeze(database, store, folder, run, rules, now)
    try:
        _check(card, run)
    except AlignmentError:
        await asyncio.to_thread(shutil.rmtree, folder)
        raise
    ledger.change(dataset_id=dataset_id)
    ledger.note(f"froze {summary(card)}")
    for warning in card["warnings"]:
        ledger.note(warning, level="warning")
    await ledger.flush()
    async with database.write() as session:
        location = str(folder.relative_to(store))
        await record_dataset(session, dataset_id, alias=run.alias, location=location, card=card, now=now)
    if run.training_file is not None:
        await _refuse_erased(database, folder, dataset_id)
    return card


async def _refuse_erased(database: Database, folder: Path, dataset_id: str) -> None:
    """Raise if somebody was erased out of the data set that this one was made from, while it was made.

    An erasure buries first and then looks through the data sets there are: one that was recorded before is found there,
    one that was recorded after it is found here.
    """
    votes = await asyncio.to_thread(lambda: sorted({vote for _, votes in read_lineage(folder) for vote in votes}))
    async with database.read() as session:
        buried = await any_buried(session, votes)
    if not buried:
        return
    async with database.write() as session:
        (await session.get_one(Dataset, dataset_id, with_for_update=True)).removed_at = datetime.now(UTC).timestamp()
    await asyncio.to_thread(shutil.rmtree, folder)
    raise AlignmentError("somebody whose votes are in the data set was erased meanwhile; train on the one replacing it")


async def _freeze(database: Database, store: Path, folder: Path, run: Run, rules: Rules, now: float) -> Card:
    if run.training_file is None:
        return await freeze(database, folder, run.alias, rules.datasets, redact=rules.redact, now=now)
    try:
        return await freeze_given(database, store, folder, run, rules.datasets, redact=rules.redact, now=now)
    except (UnusableSource, UnreadableRows) as error:
        raise AlignmentError(error.message) from error


def _check(card: Card, run: Run) -> None:
    """Raise unless there is enough to train on, and nothing that a person should look at first."""
    method = find_method(str(run.options.get("method", "orpo")))
    thumbs = card.get("thumbs", {}).get("answers", 0) if method.rows == "answers" else 0
    if run.training_file is not None and card["train"]["pairs"] + thumbs < 1:
        raise NotEnoughPairs(f"{run.training_file} leaves no row to train on ({summary(card)}); give other files")
    if card["pairs"] + thumbs < MINIMUM_PAIRS_BY_HAND:
        more = "upload a larger file" if run.training_file else "collect more feedback"
        raise NotEnoughPairs(
            f"{run.training_file or run.alias} has {card['pairs']} pairs to use, and a run needs at least "
            f"{MINIMUM_PAIRS_BY_HAND} ({summary(card)}); {more}, or import pairs with `alignway feedback import`"
        )
    if card["blocks_automatic_training"] and run.trigger != "manual":
        raise AlignmentError(
            f"{card['warnings'][-1]}; look at `alignway dataset build --dry-run`, then start a run yourself, or set "
            "datasets.balance_length"
        )
