"""Makes a release of a trained adapter, as a run does behind its gates: merged, derived, checked, sealed. Needs torch.

    python -m benchmarks.swap.sealing ORDER.json

A process of its own, so that the one that measures stays light. It prints the manifest of what it sealed.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from alignment.jobs.contracts import DeriveOrder, MergeJob
from alignment.jobs.work import merge
from alignment.publish import publish, stage
from gateway.contracts.release import DIFFERENCE_FOLDER, MERGED_FOLDER, REVERSE_FOLDER, DerivedAdapter, Release


class SealOrder(BaseModel):
    """What to seal, over what, and where."""

    store: Path
    release: Release
    """As the manifest will be, but for the derived adapters."""
    adapter: Path
    base_folder: Path
    incumbent_id: str
    incumbent_adapter: Path | None
    """None: the incumbent is the base."""


def seal(order: SealOrder) -> Release:
    """Merge, derive, check, seal; the release as it was sealed."""
    release = order.release
    staging = stage(order.store, release.alias, release.id, order.base_folder)
    derive = DeriveOrder(
        incumbent=order.incumbent_adapter,
        difference_folder=staging / DIFFERENCE_FOLDER,
        reverse_folder=staging / REVERSE_FOLDER,
    )
    job = MergeJob(
        base_folder=order.base_folder, adapter=order.adapter, merged_folder=staging / MERGED_FOLDER, derive=derive
    )
    merged = merge(job)
    ranks = {"difference": merged.difference_rank, "reverse": merged.reverse_rank}
    derived = {name: DerivedAdapter(incumbent_id=order.incumbent_id, rank=rank) for name, rank in ranks.items() if rank}
    release = release.model_copy(update={"adapter_rank": merged.rank} | derived)
    publish(staging, order.store, release, order.adapter, [], {}, order.base_folder)
    return release


if __name__ == "__main__":
    print(seal(SealOrder.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))).model_dump_json())
