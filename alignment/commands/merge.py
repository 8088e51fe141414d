"""`alignway merge`: fold an adapter into full weights that any engine loads."""

from pathlib import Path
from typing import Annotated

import typer

from alignment.commands.options import HubOption, JsonOption, ModelOption, find_model, print_json, refusal, told


def merge(
    adapter: Annotated[Path, typer.Option("--adapter", help="Folder of the LoRA adapter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the merged model; must not exist, or be empty.")],
    model: ModelOption = "smollm2-135m-instruct",
    hub: HubOption = "huggingface",
    as_json: JsonOption = False,
) -> None:
    """Write base plus adapter as one model: safetensors, tokenizer, chat template."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refusal(f"{out} is there already; give a new folder, so that no half of another model stays in it")
    with told():
        from alignment.jobs.contracts import MergeJob
        from alignment.jobs.work import merge as merge_job

        result = merge_job(MergeJob(base_folder=find_model(model, hub), adapter=adapter, merged_folder=out))
    if as_json:
        print_json({"folder": str(out.resolve()), **result.model_dump(mode="json")})
    else:
        typer.echo(
            f"Merged an adapter of rank {result.rank}: {result.size_bytes / 1e6:.0f} MB in {out}\n"
            f"Next: alignway up --model {out}"
        )
