"""One alignment cycle, top to bottom: pairs are frozen, an adapter is trained, measured, judged, merged and published.

Every step can be done again: a run that was cut off anywhere goes on from its frozen data set and its last checkpoint,
and ends in exactly one release, whose id follows from the run's.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment.freezing import DATASETS, Rules, freeze_pairs
from alignment.gate.decide import decide
from alignment.gate.report import changed_answers
from alignment.gate.rules.evidence import Judged
from alignment.gate.tasks import require_tasks
from alignment.jobs.client import TrainerProcess
from alignment.jobs.contracts import (
    DeriveOrder,
    EvaluateJob,
    EvaluateResult,
    MergeJob,
    MergeResult,
    TrainJob,
    TrainResult,
)
from alignment.jobs.evidence import evidence_of
from alignment.jobs.judging import judge_held_out
from alignment.ledger import RunLedger
from alignment.publish import check_room, publish, published_release, release_location, stage
from alignment.sharing import fetch_incumbent, share
from alignment.subject import Subject, look_up
from alignment.training.checkpoints import discard_all
from alignment.training.records import METRICS_FILE, read_metrics
from gateway.contracts.gate_report import GateReport, report_of
from gateway.contracts.placement import Effort
from gateway.contracts.release import (
    DIFFERENCE_FOLDER,
    MERGED_FOLDER,
    REVERSE_FOLDER,
    DerivedAdapter,
    GateResult,
    Interval,
    Release,
)
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE
from gateway.datasets.report import Card
from gateway.datasets.sources import ANSWERS
from gateway.sections.gates import GateSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.gate_calibrations import find_calibration
from gateway.storage.gate_cases import case_of, list_cases
from gateway.storage.releases import next_release_name

# How far the whole run is when a stage begins.
_PROGRESS = {"freezing": 0.0, "training": 0.02, "evaluating": 0.8, "merging": 0.9, "publishing": 0.96}


async def run_cycle(
    database: Database, store: Path, run: Run, rules: Rules, ledger: RunLedger, trainer: TrainerProcess
) -> None:
    """Carry a claimed run to its release, or raise. The caller renews the lease and ends the run if this raises."""
    subject = await look_up(database, store, run)
    if finished := await asyncio.to_thread(published_release, store, subject.alias, subject.release_id):
        ledger.note(f"release {finished.name} was complete already; announcing it")
        await share(store, release_location(finished.alias, finished.id), rules.bucket, ledger)
        return await announce(ledger, finished)
    serving = release_location(subject.alias, subject.incumbent_id)
    await fetch_incumbent(subject.incumbent_adapter, serving, subject.incumbent_id, rules.bucket, rules.spare_bytes)
    # Both before hours are spent.
    await asyncio.to_thread(check_room, store, subject.base_folder, rules.spare_bytes)
    require_tasks(*_tasks(rules.gates))
    _begin(ledger, "freezing")
    card = await freeze_pairs(database, store, subject.dataset_id, run, rules, ledger)
    trained = await train(store, subject, card, ledger, trainer)
    measured = await evaluate(database, store, subject, card, trained, rules.gates, ledger, trainer)
    judged = await judge(store, subject, measured, rules)
    _begin(ledger, "merging")
    staging = await asyncio.to_thread(
        stage, store, subject.alias, subject.release_id, subject.base_folder, rules.spare_bytes
    )
    merged = await merge(subject, trained, staging, ledger, trainer)
    _begin(ledger, "publishing")
    await ledger.flush()  # raises if the run is somebody else's by now
    verdicts = decide(replace(evidence_of(measured), judged=judged), rules.gates)
    release = await compose_release(database, subject, trained, measured, merged, verdicts)
    curve = read_metrics(run_folder(store, subject.run_id) / METRICS_FILE)
    facts = _facts(subject, card, trained)
    report = await report_gates(database, release, measured)
    made = (staging, store, release, trained.adapter, curve, facts, subject.base_folder, report)
    await share(store, await asyncio.to_thread(publish, *made), rules.bucket, ledger)
    await announce(ledger, release)
    discard_all(run_folder(store, subject.run_id))  # curves and log stay; the release holds the rest
    return None


async def train(store: Path, subject: Subject, card: Card, ledger: RunLedger, trainer: TrainerProcess) -> TrainResult:
    """An adapter trained from the base weights, from the last checkpoint if there is one."""
    _begin(ledger, "training")
    begin, end = _PROGRESS["training"], _PROGRESS["evaluating"]
    newest: dict[str, float] = {}

    def on_progress(metrics: dict[str, float]) -> None:
        newest.update(metrics)
        ledger.measure(metrics)
        ledger.change(progress=begin + (end - begin) * metrics["step"] / metrics["steps"])

    job = TrainJob(
        base_folder=subject.base_folder,
        base=subject.base,
        options=subject.options,
        pairs_file=dataset_folder(store, subject) / TRAIN_FILE,
        # What answers are held out can only be learnt from: by their loss the best adapter is kept.
        holdout_file=dataset_folder(store, subject) / HOLDOUT_FILE
        if _holds_answers(card) and _held_out(card)
        else None,
        folder=run_folder(store, subject.run_id),
    )
    trained = await trainer.train(job, on_progress, lambda step: ledger.checkpoint(step, newest))
    ledger.checkpoint(trained.steps, trained.last, final=True)
    if trained.steps_made:  # a resumed run may find all of them made
        ledger.change(effort=_effort(subject, trained).model_dump())
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
    held_out, (tasks, tasks_folder) = _held_out(card) and not _holds_answers(card), _tasks(gates)
    measured = await trainer.evaluate(
        EvaluateJob(
            base_folder=subject.base_folder,
            candidate=trained.adapter,
            incumbent=subject.incumbent_adapter,
            pairs_file=dataset_folder(store, subject) / HOLDOUT_FILE if held_out else None,
            max_length_tokens=subject.options.max_length_tokens,
            generate_tokens=gates.answer_tokens if gates.has("artefact") or gates.has("drift") else 0,
            measures_drift=gates.has("drift"),
            compared_prompts=gates.judge_prompts if gates.judge and gates.has("judge") else 0,
            compared_tokens=gates.judge_tokens,
            safety_tokens=gates.answer_tokens if gates.safety and gates.has("safety") else 0,
            cases=tuple(cases),
            case_tokens=gates.answer_tokens,
            tasks=tasks,
            tasks_folder=tasks_folder,
            task_limit=gates.task_limit,
        )
    )
    ledger.note(f"measured on {measured.pairs} held-out pairs about {measured.prompts} prompts")
    return measured


async def judge(store: Path, subject: Subject, measured: EvaluateResult, rules: Rules) -> Judged | None:
    """What the judge says of the answers to held-out prompts; None if it is not asked, or there is nothing to ask."""
    if not measured.compared:
        return None
    pairs_file = dataset_folder(store, subject) / HOLDOUT_FILE
    return await judge_held_out(rules.judge, rules.guideline, measured.compared, pairs_file, rules.gates.judge_prompts)


async def merge(
    subject: Subject, trained: TrainResult, staging: Path, ledger: RunLedger, trainer: TrainerProcess
) -> MergeResult:
    """The merged weights, and the adapters between them and the incumbent's, so that one can stand in for the other."""
    order = DeriveOrder(
        incumbent=subject.incumbent_adapter,
        difference_folder=staging / DIFFERENCE_FOLDER,
        reverse_folder=staging / REVERSE_FOLDER,
    )
    merged = await trainer.merge(
        MergeJob(
            base_folder=subject.base_folder,
            adapter=trained.adapter,
            merged_folder=staging / MERGED_FOLDER,
            derive=None if subject.options.quantize else order,
        )
    )
    why = "it was trained over a quantised base" if subject.options.quantize else merged.not_derived
    if why:
        ledger.note(f"no difference adapter to {subject.incumbent_id}: {why}", level="warning")
    return merged


async def compose_release(
    database: Database,
    subject: Subject,
    trained: TrainResult,
    measured: EvaluateResult,
    merged: MergeResult,
    verdicts: tuple[GateResult, ...],
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
        gates=verdicts,
        difference=_derived(subject, merged.difference_rank),
        reverse=_derived(subject, merged.reverse_rank),
    )


async def report_gates(database: Database, release: Release, measured: EvaluateResult) -> GateReport:
    """What the gates say, with what is known of their limits, and the answers that a person should look at."""
    async with database.read() as session:
        calibration = await find_calibration(session, release.alias)
    return report_of(release, calibration, changed_answers(measured.items.answers))


def _derived(subject: Subject, rank: int | None) -> DerivedAdapter | None:
    return None if rank is None else DerivedAdapter(incumbent_id=subject.incumbent_id, rank=rank)


async def announce(ledger: RunLedger, release: Release) -> None:
    """Make a sealed release known, and end its run, in one transaction."""
    state = "rejected" if release.blocked_by else "published"
    for gate in release.gates:
        told = {"gate": gate.gate, "value": gate.value, "limit": gate.limit, "pass": gate.verdict != "block"}
        level = "info" if gate.verdict == "pass" else "warning"
        ledger.note(f"gate {gate.gate}: {gate.verdict}: {gate.reason}", level, told | {"verdict": gate.verdict})
    ledger.note(f"release {release.name} is {state}")
    await ledger.succeed(release, release_location(release.alias, release.id), state)


def run_folder(store: Path, run_id: str) -> Path:
    """Checkpoints, metrics and logs of a run."""
    return store / "runs" / run_id


def dataset_folder(store: Path, subject: Subject) -> Path:
    """The frozen pairs of a run."""
    return store / DATASETS / subject.dataset_id


def _tasks(gates: GateSettings) -> tuple[tuple[str, ...], Path | None]:
    """The benchmarks to measure on, and where their items lie."""
    return (gates.tasks, gates.tasks_dir) if gates.has("tasks") else ((), None)


def _held_out(card: Card) -> bool:
    return bool(card["holdout"]["pairs"])


def _holds_answers(card: Card) -> bool:
    return card.get("rows") == ANSWERS


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


def _effort(subject: Subject, trained: TrainResult) -> Effort:
    return Effort(
        device=trained.device,
        peak_memory_bytes=trained.peak_memory_bytes,
        train_seconds=trained.seconds,
        steps=trained.steps_made,
        began_at=subject.began_at,
    )


def _facts(subject: Subject, card: Card, trained: TrainResult) -> dict[str, Any]:
    return {
        "Data": card,
        "Options": subject.options.model_dump(mode="json", by_alias=True),
        "Why these numbers": trained.reasons,
        "Training": {"last step": trained.last, "pairs": trained.pairs, "left out": trained.dropped},
    }
