"""`alignway merge`: fold an adapter into full weights that any engine loads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment.commands.options import HubOption, JsonOption, ModelOption, find_model, print_json, refuse_occupied, told
from alignment.left_out import left_out

if TYPE_CHECKING:
    from alignment.adapter.agreement import MergeCheck

_DROWNED = (
    "rounding moves the merged model about as far as the adapter does, so little of the training is left in it; "
    "train longer, or merge into a float32 copy of the base"
)


def merge(
    adapter: Annotated[Path, typer.Option("--adapter", help="Folder of the LoRA adapter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the merged model; must not exist, or be empty.")],
    model: ModelOption = "smollm2-135m-instruct",
    hub: HubOption = "huggingface",
    as_json: JsonOption = False,
) -> None:
    """Write base plus adapter as one model, and check that it says the same: safetensors, tokenizer, chat template."""
    refuse_occupied(out)
    with told():
        from alignment.jobs.contracts import MergeJob

        with left_out():
            from alignment.jobs.work import merge as merge_job

        result = merge_job(MergeJob(base_folder=find_model(model, hub), adapter=adapter, merged_folder=out))
    if as_json:
        print_json({"folder": str(out.resolve()), **result.model_dump(mode="json")})
    else:
        typer.echo(f"Merged an adapter of rank {result.rank}: {result.size_bytes / 1e6:.0f} MB in {out}")
        typer.echo(told_check(result.check))
        typer.echo(f"Next: alignway up --model {out}")
    if result.check.drowned:
        typer.echo(f"warning: {_DROWNED}", err=True)


def told_check(check: "MergeCheck") -> str:
    """The figures of a merge for people."""
    return (
        f"Checked against base plus adapter ({check.dtype}, {check.positions} positions): logits differ by at most "
        f"{check.max_absolute_difference:.2g} ({check.max_relative_difference:.1g} of the largest), where the adapter "
        f"moves them by up to {check.adapter_effect:.2g}; {check.greedy_agreement_share:.1%} of the next tokens agree"
    )
