"""What a run works on: its alias, its base, what it is compared with. Looked up once, when it begins."""

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from alignment.errors import AlignmentError
from gateway.contracts import ids
from gateway.contracts.release import ADAPTER_FOLDER, BaseModelRef
from gateway.contracts.training import TrainingOptions
from gateway.datasets.given import given_dataset
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.tables import Alias, ReleaseRow


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
    dataset_id: str
    """What it trains on: a data set that was frozen before, or the one that this run may freeze."""
    began_at: float
    """When this attempt began, in unix seconds."""

    @property
    def release_id(self) -> str:
        """The id of the one release this run may make."""
        return ids.RELEASE + self.run_id.removeprefix(ids.RUN)


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
    dataset_id = given_dataset(run) or ids.DATASET + run.id.removeprefix(ids.RUN)
    return Subject(
        run.id, alias.name, options, Path(base.location), reference, incumbent.id, adapter, dataset_id, time.time()
    )
