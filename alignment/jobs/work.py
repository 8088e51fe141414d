"""The jobs that make files, each a function of its record. Run in the training process, or by the command line."""

from alignment.adapter.merge import adapter_rank, merge_adapter
from alignment.files import folder_bytes
from alignment.jobs.contracts import MergeJob, MergeResult


def merge(job: MergeJob) -> MergeResult:
    """Write the merged model, checked against base plus adapter."""
    rank = adapter_rank(job.adapter)
    check = merge_adapter(job.base_folder, job.adapter, job.merged_folder)
    return MergeResult(rank=rank, size_bytes=folder_bytes(job.merged_folder), check=check)
