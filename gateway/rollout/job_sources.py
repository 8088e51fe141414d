"""Which alias a fine-tuning job trains, and whether the files it names can train and measure it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND
from gateway.datasets.sources import ANSWERS
from gateway.errors import InvalidRequest, ModelNotFound, NotFound, WrongTask
from gateway.storage.file_tables import UploadedFile
from gateway.storage.files import find_file
from gateway.storage.fine_tuning import aliases_on, find_own_dataset
from gateway.storage.releases import find_release
from gateway.storage.tables import Alias, ReleaseRow


class SourceUnknown(NotFound):
    """Unknown, deleted, or of another project: which of these is not told."""

    code = "file_not_found"

    def __init__(self, source_id: str, param: str) -> None:
        told = "GET /v1/files and GET /admin/v1/datasets list what there is"
        super().__init__(f"There is no file or data set {source_id!r} in this project. {told}.", param=param)


class NotEnoughRows(InvalidRequest):
    """Too little to learn from."""

    code = "not_enough_pairs"

    def __init__(self, rows: int, param: str) -> None:
        super().__init__(
            f"There are {rows} rows to train and measure with; a job needs {MINIMUM_PAIRS_BY_HAND}.", param=param
        )


@dataclass(frozen=True)
class Rows:
    """How many rows a source has, and of which kind."""

    train: int
    holdout: int
    answers: bool


async def find_model(session: AsyncSession, project_id: str, model: str) -> Alias:
    """The project's alias of that name, or its only one on that base model. Raises `ModelNotFound` and others."""
    alias = await session.get(Alias, model)
    if alias is None or alias.project_id != project_id:
        alias = await _on_base(session, project_id, model)
    if alias.task != "chat":
        raise WrongTask(model, alias.task)
    await require_weights(session, alias)
    return alias


async def require_weights(session: AsyncSession, alias: Alias) -> None:
    """Raise `InvalidRequest` if the base model of the alias is known by its engine's address alone."""
    if not (await session.get_one(ReleaseRow, alias.base_release_id)).location:
        raise InvalidRequest(
            f"The weights under `{alias.name}` are not here: its engine is run by somebody else. To train it, start "
            "with --model and the folder or id of the same model.",
            param="model",
            code="base_model_missing",
        )


async def _on_base(session: AsyncSession, project_id: str, model: str) -> Alias:
    found = await aliases_on(session, project_id, model)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(alias.name for alias in found)
        raise InvalidRequest(
            f"Several aliases stand on {model!r}: {names}. Give one of them as `model`.",
            param="model",
            code="ambiguous_model",
        )
    release = await find_release(session, model)
    owner = None if release is None else await session.get(Alias, release.alias)
    if owner is not None and owner.project_id == project_id:
        raise InvalidRequest(
            f"`{model}` is a release, and every training begins from base weights. Give its alias, `{owner.name}`.",
            param="model",
            code="unsupported_model",
        )
    raise ModelNotFound(f"There is no model `{model}` here. GET /v1/models lists those there are.")


async def look_at(session: AsyncSession, alias: Alias, source_id: str, param: str) -> Rows:
    """What a file or data set holds. Raises `SourceUnknown`, or `InvalidRequest` for one that cannot be used."""
    if source_id.startswith(ids.DATASET):
        return await _look_at_dataset(session, alias, source_id, param)
    file = await find_file(session, alias.project_id, source_id)
    if file is None:
        raise SourceUnknown(source_id, param)
    if file.status != "processed":
        raise InvalidRequest(f"{source_id} has bad rows: {file.status_details}", param=param, code="invalid_file")
    return _rows_of(file)


def _rows_of(file: UploadedFile) -> Rows:
    pairs, answers = file.counts["pairs"], file.counts["answers"]
    return Rows(pairs + answers, pairs + answers, answers=answers > 0)


async def _look_at_dataset(session: AsyncSession, alias: Alias, source_id: str, param: str) -> Rows:
    dataset = await find_own_dataset(session, alias.project_id, source_id)
    if dataset is None:
        raise SourceUnknown(source_id, param)
    if dataset.removed_at is not None:
        instead = f"take {dataset.replaced_by}" if dataset.replaced_by else "build a new one"
        raise InvalidRequest(f"The data set {source_id} was removed; {instead}.", param=param, code="dataset_removed")
    if dataset.alias != alias.name:
        raise InvalidRequest(
            f"The data set {source_id} was divided for `{dataset.alias}`, and may hold what `{alias.name}` is measured "
            "on; build one for it with POST /admin/v1/datasets.",
            param=param,
            code="dataset_of_other_alias",
        )
    card: dict[str, Any] = dataset.card
    return Rows(card["train"]["pairs"], card["holdout"]["pairs"], answers=card.get("rows") == ANSWERS)


def check_rows(method: str, training: Rows, validation: Rows | None, *, dataset: bool) -> None:
    """Raise `InvalidRequest` if these cannot train with that method. `dataset`: training has a holdout of its own."""
    if training.answers and method != "sft":
        raise _wrong_rows("training_file", f"the method `{method}` learns from pairs; `supervised` from answers")
    if validation is not None and validation.answers and not training.answers:
        raise _wrong_rows("validation_file", "what learns from pairs is measured on pairs")
    if validation is not None:
        rows, param = training.train + validation.holdout, "validation_file" if training.train else "training_file"
    else:
        rows, param = training.train + (training.holdout if dataset else 0), "training_file"
    if rows < MINIMUM_PAIRS_BY_HAND or training.train < 1:
        raise NotEnoughRows(rows, param)
    if validation is not None and validation.holdout < 1:
        raise NotEnoughRows(0, "validation_file")


def _wrong_rows(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` holds single answers, and {why}.", param=param, code="wrong_rows")
