"""The jobs that make files, each a function of its record. Run in the training process, or by the command line."""

import shutil

from alignment.adapter.difference import write_difference
from alignment.adapter.merge import adapter_rank, merge_adapter
from alignment.errors import UnfitModel
from alignment.files import folder_bytes
from alignment.jobs.contracts import DeriveOrder, MergeJob, MergeResult


def merge(job: MergeJob) -> MergeResult:
    """Write the merged model, checked against base plus adapter, and the adapters derived from it if ordered."""
    rank = adapter_rank(job.adapter)
    check = merge_adapter(job.base_folder, job.adapter, job.merged_folder)
    merged = MergeResult(rank=rank, size_bytes=folder_bytes(job.merged_folder), check=check)
    if job.derive is None:
        return merged
    try:
        difference, reverse = _derive(job, job.derive)
    except UnfitModel as error:  # the release serves without them
        for folder in (job.derive.difference_folder, job.derive.reverse_folder):
            shutil.rmtree(folder, ignore_errors=True)
        return merged.model_copy(update={"not_derived": error.message})
    return merged.model_copy(update={"difference_rank": difference, "reverse_rank": reverse})


def _derive(job: MergeJob, order: DeriveOrder) -> tuple[int | None, int]:
    difference = None
    if order.incumbent is not None:
        difference = write_difference(job.adapter, order.incumbent, job.base_folder, order.difference_folder)
    return difference, write_difference(order.incumbent, job.adapter, job.base_folder, order.reverse_folder)
