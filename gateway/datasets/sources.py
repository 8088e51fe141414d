"""What a run was told to train on or to measure on: an uploaded file, or a part of a frozen data set; row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Origin, Rater, Side
from gateway.contracts.prompt import prompt_hash
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE
from gateway.errors import InvalidRequest
from gateway.formats.answers import demonstrations_of
from gateway.formats.fields import BadRow, Row
from gateway.formats.pairs import pairs_of
from gateway.formats.record import RowAnswer, RowPair
from gateway.formats.report import numbered_objects
from gateway.storage.datasets import find_dataset
from gateway.storage.files import find_file

ANSWERS = "answers"
"""In a card under `rows`: the data set holds answers to learn from, not pairs."""
_NOBODY = Rater(id_hash="file", kind="code")


class UnusableSource(InvalidRequest):
    """A file or data set that is gone by now, cannot be read, or holds something else than the method learns from."""

    code = "unusable_source"


@dataclass(frozen=True)
class Source:
    """Where rows come from."""

    id: str
    path: Path
    project_id: str
    created_at: float
    answers: bool
    """Some of its rows are single answers."""
    frozen: bool
    """Its pairs were votes, and keep what they say of themselves."""


async def find_source(session: AsyncSession, store: Path, project_id: str, source_id: str, *, held_out: bool) -> Source:
    """The source of that id; `held_out`: of a data set, the part that nobody trains on. Raises `UnusableSource`."""
    if source_id.startswith(ids.DATASET):
        dataset = await find_dataset(session, source_id)
        if dataset is None or dataset.removed_at is not None:
            raise UnusableSource(f"The data set {source_id} was removed; train on another one.")
        path = store / dataset.location / (HOLDOUT_FILE if held_out else TRAIN_FILE)
        answers = dataset.card.get("rows") == ANSWERS
        return Source(source_id, path, project_id, dataset.created_at, answers, frozen=not answers)
    file = await find_file(session, project_id, source_id)
    if file is None:
        raise UnusableSource(f"The file {source_id} was deleted before it was trained on; upload it again.")
    answers = bool(file.counts.get("answers"))
    return Source(source_id, store / file.location, project_id, file.created_at, answers, frozen=False)


def rows_of(source: Source, *, answers: bool) -> Iterator[FeedbackPair]:
    """The pairs of a source, in their order; with `answers` both sides of each are the answer to learn from.

    Answers with a thumb down are left out. Raises `UnusableSource` for a row that cannot be read.
    """
    if source.frozen:
        from gateway.datasets.pair_file import read_pairs

        yield from read_pairs(source.path)
        return
    for number, row in numbered_objects(source.path):
        try:
            if isinstance(row, BadRow):
                raise row
            yield from _learnt_from(row, source, number) if answers else _preferred(row, source, number)
        except (BadRow, UnicodeEncodeError) as error:
            raise UnusableSource(f"{source.id}, line {number}: {error}; mend the file and upload it again.") from error


def _preferred(row: Row, source: Source, number: int) -> list[FeedbackPair]:
    found = pairs_of(row)
    return [_pair(one, source, _name(source, number, n, len(found))) for n, one in enumerate(found, start=1)]


def _learnt_from(row: Row, source: Source, number: int) -> list[FeedbackPair]:
    found = [one for one in demonstrations_of(row) if one.is_desirable]
    return [_demonstration(one, source, _name(source, number, n, len(found))) for n, one in enumerate(found, start=1)]


def _name(source: Source, number: int, n: int, of: int) -> str:
    return f"{source.id}:{number}" + (f":{n}" if of > 1 else "")


def _pair(row: RowPair, source: Source, name: str) -> FeedbackPair:
    sides = [_side(message, origin) for message, origin in zip((row.chosen, row.rejected), row.origins, strict=True)]
    return FeedbackPair(
        id=name,
        project_id=source.project_id,
        prompt=row.prompt,
        tools=row.tools,
        prompt_hash=prompt_hash(row.prompt, row.tools),
        chosen=sides[0],
        rejected=sides[1],
        weight=row.weight,
        basis=row.basis,
        fact=row.fact,
        source=row.source,
        licence=row.licence,
        rater=_NOBODY,
        feedback_ids=(source.id,),
        judged_at=row.judged_at or datetime.fromtimestamp(source.created_at, UTC),
    )


def _demonstration(row: RowAnswer, source: Source, name: str) -> FeedbackPair:
    said = RowPair(row.prompt, row.completion, row.completion, tools=row.tools, weight=row.weight)
    return _pair(said, source, name)


def _side(message: Message, origin: Origin) -> Side:
    return Side(message=message, origin=origin)
