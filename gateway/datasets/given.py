"""Freezes what a run was given to train on, beside its data sets of votes: nothing is added to the votes of the alias.

Without something of its own to measure on, prompts come to lie as the alias's own do: near-duplicates of settled ones
on their side, others by the same keyed draw. With it, whatever resembles what is measured on is not trained on.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.contracts import ids
from gateway.contracts.pair import FeedbackPair
from gateway.datasets.beside import lying_beside, place_all
from gateway.datasets.bodies import body_of, texts_of
from gateway.datasets.collect import Collected, as_trained, benchmarks_of, chosen_of
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE, sealed
from gateway.datasets.pair_file import PairFile
from gateway.datasets.plan import BRIDGES, Lying, Plan
from gateway.datasets.report import Card
from gateway.datasets.shingles import prompt_text
from gateway.datasets.sides import Newcomers
from gateway.datasets.sources import ANSWERS, Source, UnusableSource, find_source, rows_of
from gateway.datasets.split import SplitSide
from gateway.redaction.configured import RedactPair as Redact
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.pairs import digest_of
from gateway.storage.tables import Alias

REPEATED, MEASURED_ON = "repeated", "near_validation"


@dataclass(frozen=True)
class Given:
    """What a run was given."""

    alias: str
    training: Source
    validation: Source | None
    """None: a part of `training` is held out."""

    @property
    def answers(self) -> bool:
        """Whether answers are learnt from, not pairs."""
        return self.training.answers


def given_dataset(run: Run) -> str | None:
    """The frozen data set that the run uses as it is, if it does."""
    own = run.training_file is not None and run.training_file.startswith(ids.DATASET) and run.validation_file is None
    return run.training_file if own else None


async def freeze_given(
    database: Database,
    store: Path,
    folder: Path,
    run: Run,
    settings: DatasetSettings,
    *,
    redact: Redact | None = None,
    now: float,
) -> Card:
    """Write the data set `folder.name` from what `run` was given, whole or not at all, and return its card.

    Raises `UnusableSource`, or `UnreadableRows` for a file that cannot be read at all.
    """
    given = await _given(database, store, run)
    lying = await _lie(database, given, settings)
    collected = Collected(run.alias, now, {}, Plan())
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        await asyncio.to_thread(_write, unfinished, given, lying, settings, redact, collected)
    except BaseException:  # what was written holds people's words
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    made_from = {"training_file": run.training_file, "validation_file": run.validation_file}
    extra = {"made_from": made_from, "rows": ANSWERS if given.answers else "pairs"}
    return await asyncio.to_thread(sealed, unfinished, folder, collected, settings, extra)


async def _given(database: Database, store: Path, run: Run) -> Given:
    async with database.read() as session:
        project = (await session.get_one(Alias, run.alias)).project_id
        training = await find_source(session, store, project, run.training_file or "", held_out=False)
        validation = None
        if run.validation_file is not None:
            validation = await find_source(session, store, project, run.validation_file, held_out=True)
    if training.answers and run.options.get("method") != "sft":
        raise UnusableSource(f"{training.id} holds single answers; only the method `supervised` learns from them.")
    if validation is not None and validation.answers and not training.answers:
        raise UnusableSource(f"{validation.id} holds single answers; a run on pairs is measured on pairs.")
    return Given(run.alias, training, validation)


async def _lie(database: Database, given: Given, settings: DatasetSettings) -> dict[str, Lying]:
    """Where every prompt lies."""
    new = await asyncio.to_thread(_prompts, given)
    if given.validation is None:
        return await lying_beside(database, given.alias, settings, new, held_out=0)
    held_out = await asyncio.to_thread(lambda: {one.prompt_hash for one in _held(given)})
    return await place_all(database, given.alias, Newcomers(), new, partial(_given_side, held_out))


def _given_side(held_out: set[str], prompt_hash: str) -> SplitSide:
    return "holdout" if prompt_hash in held_out else "train"


def _prompts(given: Given) -> dict[str, str]:
    """Hash and text of every prompt; those to measure on first, so that the others resemble them and not they those."""
    found: dict[str, str] = {}
    for source in reversed([*_sources(given)]):
        for pair in rows_of(source, answers=given.answers):
            found.setdefault(pair.prompt_hash, prompt_text(pair.prompt))
    return found


def _sources(given: Given) -> Iterator[Source]:
    yield given.training
    if given.validation is not None:
        yield given.validation


def _held(given: Given) -> Iterable[FeedbackPair]:
    return () if given.validation is None else rows_of(given.validation, answers=given.answers)


def _write(
    folder: Path,
    given: Given,
    lying: dict[str, Lying],
    settings: DatasetSettings,
    redact: Redact | None,
    collected: Collected,
) -> None:
    benchmarks = benchmarks_of(settings)
    dropped = collected.plan.dropped
    names = (TRAIN_FILE, HOLDOUT_FILE)
    with ExitStack() as files:
        opened = [files.enter_context(PairFile(folder / name, answers=given.answers)) for name in names]
        parts = dict(zip(("train", "holdout"), opened, strict=True))
        for pair, lies in _divided(given, lying, dropped):
            kept = as_trained(body_of(pair), benchmarks, redact, collected, sides_differ=not given.answers)
            if kept is None:
                continue
            texts = texts_of(kept)
            chosen = chosen_of(kept, texts, lies, raters=1)
            collected.chosen.append(chosen)
            if not given.answers:
                collected.newest.append(texts)
            parts[lies.side].add(kept, chosen)
    collected.votes["eligible", None] = len(collected.chosen) + sum(dropped.values())


def _divided(given: Given, lying: dict[str, Lying], dropped: Counter[str]) -> Iterator[tuple[FeedbackPair, Lying]]:
    """Every row that is used, once, and where it lies."""
    seen: set[tuple[str, int, int]] = set()
    for source in _sources(given):
        for pair in rows_of(source, answers=given.answers):
            lies = lying[pair.prompt_hash]
            said = (pair.prompt_hash, digest_of(pair.chosen.message), digest_of(pair.rejected.message))
            if source is given.training and given.validation is not None and (lies.side != "train" or lies.bridges):
                dropped[MEASURED_ON] += 1
            elif lies.bridges:
                dropped[BRIDGES] += 1
            elif said in seen:
                dropped[REPEATED] += 1
            else:
                seen.add(said)
                yield pair, lies
