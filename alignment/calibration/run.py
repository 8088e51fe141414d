"""An A/A run: two models that are no different are measured as a candidate is, and the gates are asked many times."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alignment.calibration.subject import Recipe, newest_made, newest_recipe
from alignment.errors import AlignmentError
from alignment.gate.items import Items
from alignment.gate.noise import noise
from alignment.jobs.client import TrainerProcess, trainer_process
from alignment.jobs.contracts import EvaluateJob, TrainJob
from gateway.contracts.gate_report import Calibration
from gateway.sections.gates import GateSettings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.gate_calibrations import keep_calibration

FOLDER, LOG_FILE = "calibration", "trainer.log"
"""In the release store: the log, and adapters while they are compared."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to calibrate, and how."""

    alias: str
    seeds: int = 0
    """So many trainings that differ in nothing but the seed; 0 compares releases that were made."""
    draws: int = 400
    seed: int = 0
    """Of the draws; trainings take the seeds from here on."""


async def calibrate(database: Database, store: Path, asked: Asked, limits: GateSettings, tell: Tell) -> Calibration:
    """Measure, draw, and keep what was found for the reports of the alias. Raises `AlignmentError`."""
    of = _of_trainings if asked.seeds else _of_releases
    comparisons, subject = await of(database, store, asked, limits, tell)
    pairs = min(len(items.pairs) for items in comparisons)
    if not pairs:
        raise AlignmentError(
            "no held-out pair fits the model; raise max_length_tokens of the training, or freeze another data set"
        )
    tell(f"asking the gates {asked.draws} times")
    found = await asyncio.to_thread(noise, comparisons, limits, asked.draws, asked.seed)
    calibration = Calibration(
        alias=asked.alias,
        how="seeds" if asked.seeds else "exchanged",
        subject=subject,
        draws=asked.draws,
        holdout_pairs=pairs,
        made_at=datetime.now(UTC),
        limits=found,
    )
    async with database.write() as session:
        await keep_calibration(session, calibration, COMMAND_LINE)
    return calibration


async def _of_releases(
    database: Database, store: Path, asked: Asked, limits: GateSettings, tell: Tell
) -> tuple[list[Items], str]:
    """The newest release beside what it was to replace."""
    made = await newest_made(database, store, asked.alias)
    tell(f"measuring {made.name} beside {made.rival}")
    pair = (made.candidate, made.incumbent)
    job = _job(made.base_folder, pair, made.pairs_file, made.max_length_tokens, limits)
    async with trainer_process(store / FOLDER / asked.alias / LOG_FILE) as trainer:
        return [(await trainer.evaluate(job)).items], f"{made.name} against {made.rival}, exchanged at random"


async def _of_trainings(
    database: Database, store: Path, asked: Asked, limits: GateSettings, tell: Tell
) -> tuple[list[Items], str]:
    """Trainings beside each other."""
    recipe, folder = await newest_recipe(database, store, asked.alias), store / FOLDER / asked.alias
    async with trainer_process(folder / LOG_FILE) as trainer:
        comparisons = await _trained(recipe, folder, asked, limits, trainer, tell)
    return comparisons, f"{asked.seeds} trainings on {recipe.dataset_id} that differ in their seed"


async def _trained(
    recipe: Recipe, folder: Path, asked: Asked, limits: GateSettings, trainer: TrainerProcess, tell: Tell
) -> list[Items]:
    """Each training compared with the one before it."""
    adapters: list[Path] = []
    try:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            tell(f"training with seed {seed} on {recipe.dataset_id}")
            adapters.append(await _train(recipe, folder / f"seed-{seed}", seed, trainer))
        tell("measuring them beside each other")
        return [await _compared(recipe, pair, limits, trainer) for pair in zip(adapters[1:], adapters, strict=False)]
    finally:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            shutil.rmtree(folder / f"seed-{seed}", ignore_errors=True)


async def _train(recipe: Recipe, folder: Path, seed: int, trainer: TrainerProcess) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left may be of other pairs
    options = recipe.options.model_copy(update={"seed": seed})
    job = TrainJob(
        base_folder=recipe.base_folder, base=recipe.base, options=options, pairs_file=recipe.train_file, folder=folder
    )
    return (await trainer.train(job, lambda _: None)).adapter


async def _compared(recipe: Recipe, pair: tuple[Path, Path], limits: GateSettings, trainer: TrainerProcess) -> Items:
    job = _job(recipe.base_folder, pair, recipe.pairs_file, recipe.options.max_length_tokens, limits)
    return (await trainer.evaluate(job)).items


def _job(
    base: Path, pair: Sequence[Path | None], pairs_file: Path, max_length_tokens: int, limits: GateSettings
) -> EvaluateJob:
    """As a cycle measures a candidate, without the operator's questions: they have no scatter."""
    candidate, incumbent = pair
    return EvaluateJob(
        base_folder=base,
        candidate=candidate,
        incumbent=incumbent,
        pairs_file=pairs_file,
        max_length_tokens=max_length_tokens,
        generate_tokens=limits.answer_tokens if limits.has("artefact") or limits.has("drift") else 0,
        measures_drift=limits.has("drift"),
        safety_tokens=limits.answer_tokens if limits.safety and limits.has("safety") else 0,
    )
