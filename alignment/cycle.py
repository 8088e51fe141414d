"""One alignment cycle, top to bottom: pairs are frozen, an adapter is trained, measured, judged, merged and published.

Every step can be done again: a run that was cut off anywhere goes on from its frozen data set and its last checkpoint,
and ends in exactly one release, whose id follows from the run's.
"""

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignment.errors import AlignmentError, NotEnoughPairs
from alignment.gate.decide import decide
from alignment.jobs.client import TrainerProcess
from alignment.jobs.contracts import EvaluateJob, EvaluateResult, MergeJob, TrainJob, TrainResult
from alignment.jobs.evidence import evidence_of
from alignment.ledger import RunLedger
from alignment.publish import publish, published_release, release_location, stage
from alignment.training.checkpoints import discard_all
from alignment.training.records import METRICS_FILE, read_metrics
from gateway.contracts import ids
from gateway.contracts.release import ADAPTER_FOLDER, MERGED_FOLDER, BaseModelRef, Interval, Release
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND, TrainingOptions
from gateway.datasets.card import summary
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE, freeze, read_card
from gateway.datasets.report import Card
from gateway.redaction.configured import RedactPair
from gateway.sections.datasets import DatasetSettings
from gateway.sections.gates import GateSettings
from gateway.storage.database import Database
from gateway.storage.datasets import find_dataset, record_dataset
from gateway.storage.feedback_tables import Run
from gateway.storage.gate_cases import case_of, list_cases
from gateway.storage.releases import next_release_name
from gateway.storage.tables import Alias, ReleaseRow

# How far the whole run is when a stage begins.
_PROGRESS = {"freezing": 0.0, "training": 0.02, "evaluating": 0.8, "merging": 0.9, "publishing": 0.96}


@dataclass(frozen=True, slots=True)
class Rules:
    """How pairs become a data set, and what a candidate is held to."""

    datasets: DatasetSettings = field(default_factory=DatasetSettings)
    redact: RedactPair | None = None
    """What is done to a pair before anybody trains on it."""
    gates: GateSettings = field(default_factory=GateSettings)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a run works on: looked up once, when it begins."""

    run_id: str
    alias: str
    options: TrainingOptions
    base_folder: Path
    base: BaseModelRef
    incumbent_id: str
    incumbent_adapter: Path | None
    """None while the alias serves its base model."""

    @property
    def release_id(self) -> str:
        """The id of the one release this run may make."""
        return ids.RELEASE + self.run_id.removeprefix(ids.RUN)

    @property
    def dataset_id(self) -> str:
        """The id of the one data set this run may freeze."""
        return ids.DATASET + self.run_id.removeprefix(ids.RUN)


async def run_cycle(
    database: Database, store: Path, run: Run, rules: Rules, ledger: RunLedger, trainer: TrainerProcess
) -> None:
    """Carry a claimed run to its release, or raise. The caller renews the lease and ends the run if this raises."""
    subject = await look_up(database, store, run)
    if finished := await asyncio.to_thread(published_release, store, subject.alias, subject.release_id):
        ledger.note(f"release {finished.name} was complete already; announcing it")
        return await announce(ledger, finished)
    card = await freeze_pairs(database, store, subject, run, rules, ledger)
    trained = await train(store, subject, ledger, trainer)
    measured = await evaluate(database, store, subject, card, trained, rules.gates, ledger, trainer)
    _begin(ledger, "merging")
    staging = await asyncio.to_thread(stage, store, subject.alias, subject.release_id, subject.base_folder)
    await trainer.merge(
        MergeJob(base_folder=subject.base_folder, adapter=trained.adapter, merged_folder=staging / MERGED_FOLDER)
    )
    _begin(ledger, "publishing")
    await ledger.flush()  # raises if the run is somebody else's by now
    release = await compose_release(database, subject, trained, measured, rules.gates)
    curve = read_metrics(run_folder(store, subject.run_id) / METRICS_FILE)
    facts = _facts(subject, card, trained)
    await asyncio.to_thread(publish, staging, store, release, trained.adapter, curve, facts)
    await announce(ledger, release)
    discard_all(run_folder(store, subject.run_id))  # curves and log stay; the release holds the rest
    return None


async def look_up(database: Database, store: Path, run: Run) -> Subject:
    """Everything the run needs to know. Raises `AlignmentError` if the database says nothing usable."""
    async with database.read() as session:
        alias = await session.get_one(Alias, run.alias)
        base = await session.get_one(ReleaseRow, alias.base_release_id)
        incumbent = await session.get_one(ReleaseRow, alias.serving_release_id)
    try:
        reference = BaseModelRef.model_validate(base.manifest.get("base"))
        options = TrainingOptions.model_validate(run.options)
    except ValidationError as error:
        raise AlignmentError(f"the run cannot be read: {error}; start a new one") from error
    if not Path(base.location).is_dir():
        raise AlignmentError(
            f"the base model of {alias.name} is not at {base.location} on this machine; "
            "fetch it with `alignway models pull`, or start Alignway where it lies"
        )
    adapter = None if incumbent.kind == "base" else store / incumbent.location / ADAPTER_FOLDER
    return Subject(run.id, alias.name, options, Path(base.location), reference, incumbent.id, adapter)


async def freeze_pairs(
    database: Database, store: Path, subject: Subject, run: Run, rules: Rules, ledger: RunLedger
) -> Card:
    """The data set of the run: the one it froze before, or a new one from the pairs eligible now."""
    _begin(ledger, "freezing")
    folder = dataset_folder(store, subject)
    async with database.read() as session:
        if await find_dataset(session, subject.dataset_id) is not None:
            return await asyncio.to_thread(read_card, folder)
    now = datetime.now(UTC).timestamp()
    card = await freeze(database, folder, subject.alias, rules.datasets, redact=rules.redact, now=now)
    try:
        _check(card, subject, run)
    except AlignmentError:
        await asyncio.to_thread(shutil.rmtree, folder)
        raise
    ledger.change(dataset_id=subject.dataset_id)
    ledger.note(f"froze {summary(card)}")
    for warning in card["warnings"]:
        ledger.note(warning, level="warning")
    await ledger.flush()
    async with database.write() as session:
        location = str(folder.relative_to(store))
        await record_dataset(session, subject.dataset_id, alias=subject.alias, location=location, card=card, now=now)
    return card


def _check(card: Card, subject: Subject, run: Run) -> None:
    """Raise unless there is enough to train on, and nothing that a person should look at first."""
    if card["pairs"] < MINIMUM_PAIRS_BY_HAND:
        raise NotEnoughPairs(
            f"{subject.alias} has {card['pairs']} pairs to use, and a run needs at least {MINIMUM_PAIRS_BY_HAND} "
            f"({summary(card)}); collect more feedback, or import pairs with `alignway feedback import`"
        )
    if card["blocks_automatic_training"] and run.trigger != "manual":
        raise AlignmentError(
            f"{card['warnings'][-1]}; look at `alignway dataset build --dry-run`, then start a run yourself, or set "
            "datasets.balance_length"
        )


async def train(store: Path, subject: Subject, ledger: RunLedger, trainer: TrainerProcess) -> TrainResult:
    """An adapter trained from the base weights, from the last checkpoint if there is one."""
    _begin(ledger, "training")
    begin, end = _PROGRESS["training"], _PROGRESS["evaluating"]

    def on_progress(metrics: dict[str, float]) -> None:
        ledger.measure(metrics)
        ledger.change(progress=begin + (end - begin) * metrics["step"] / metrics["steps"])

    job = TrainJob(
        base_folder=subject.base_folder,
        base=subject.base,
        options=subject.options,
        pairs_file=dataset_folder(store, subject) / TRAIN_FILE,
        folder=run_folder(store, subject.run_id),
    )
    trained = await trainer.train(job, on_progress)
    for reason in trained.reasons:
        ledger.note(reason)
    for reason, count in trained.dropped.items():
        ledger.note(f"{count} pairs were left out: {reason}", level="warning")
    return trained


async def evaluate(
    database: Database,
    store: Path,
    subject: Subject,
    card: Card,
    trained: TrainResult,
    gates: GateSettings,
    ledger: RunLedger,
    trainer: TrainerProcess,
) -> EvaluateResult:
    """Candidate against incumbent and base, on the held-out pairs, the fixed texts and the pinned prompts."""
    _begin(ledger, "evaluating")
    async with database.read() as session:
        cases = [case_of(row) for row in await list_cases(session, subject.alias)] if gates.has("cases") else []
    held_out = card["holdout"]["pairs"] > 0
    measured = await trainer.evaluate(
        EvaluateJob(
            base_folder=subject.base_folder,
            candidate=trained.adapter,
            incumbent=subject.incumbent_adapter,
            pairs_file=dataset_folder(store, subject) / HOLDOUT_FILE if held_out else None,
            max_length_tokens=subject.options.max_length_tokens,
            generate_tokens=gates.answer_tokens if gates.has("artefact") or gates.has("drift") else 0,
            measures_drift=gates.has("drift"),
            cases=tuple(cases),
            case_tokens=gates.answer_tokens,
        )
    )
    ledger.note(f"measured on {measured.pairs} held-out pairs about {measured.prompts} prompts")
    return measured


async def compose_release(
    database: Database, subject: Subject, trained: TrainResult, measured: EvaluateResult, gates: GateSettings
) -> Release:
    """The manifest: what was made from what, what was measured, and what the gates say to it."""
    now = datetime.now(UTC)
    async with database.read() as session:
        name = await next_release_name(session, subject.alias, now)
    return Release(
        id=subject.release_id,
        name=name,
        alias=subject.alias,
        parent_id=subject.incumbent_id,
        base=subject.base,
        adapter_rank=subject.options.rank,
        method=subject.options.method,
        dataset_id=subject.dataset_id,
        run_id=subject.run_id,
        created_at=now,
        metrics=_plain(measured) | {"train_loss": trained.last["loss"], "train_steps": trained.steps},
        gates=decide(evidence_of(measured), gates),
    )


async def announce(ledger: RunLedger, release: Release) -> None:
    """Make a sealed release known, and end its run, in one transaction."""
    state = "rejected" if release.blocked_by else "published"
    for gate in release.gates:
        ledger.note(f"gate {gate.gate}: {gate.verdict}: {gate.reason}", "info" if gate.verdict == "pass" else "warning")
    ledger.note(f"release {release.name} is {state}")
    await ledger.succeed(release, release_location(release.alias, release.id), state)


def run_folder(store: Path, run_id: str) -> Path:
    """Checkpoints, metrics and logs of a run."""
    return store / "runs" / run_id


def dataset_folder(store: Path, subject: Subject) -> Path:
    """The frozen pairs of a run."""
    return store / "datasets" / subject.dataset_id


def _begin(ledger: RunLedger, name: str) -> None:
    ledger.change(stage=name, progress=_PROGRESS[name])
    ledger.note(name)


def _plain(measured: EvaluateResult) -> dict[str, Any]:
    """Metrics as a manifest holds them."""
    counts: dict[str, Any] = {
        "holdout_pairs": measured.pairs,
        "holdout_prompts": measured.prompts,
        "holdout_matched_pairs": measured.matched_pairs,
    }
    figures = measured.metrics.items()
    return counts | {name: v.model_dump() if isinstance(v, Interval) else v for name, v in figures}


def _facts(subject: Subject, card: Card, trained: TrainResult) -> dict[str, Any]:
    return {
        "Data": card,
        "Options": subject.options.model_dump(mode="json", by_alias=True),
        "Why these numbers": trained.reasons,
        "Training": {"last step": trained.last, "pairs": trained.pairs, "left out": trained.dropped},
    }
