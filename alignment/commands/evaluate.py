"""`alignway evaluate`: measure a model, or an adapter against its base, on preference pairs and fixed text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment.commands.options import HubOption, JsonOption, ModelOption, find_model, print_json, told
from gateway.contracts.release import Interval

if TYPE_CHECKING:
    from alignment.jobs.contracts import EvaluateResult


def evaluate(
    dataset: Annotated[Path, typer.Option("--dataset", help="Held-out preference pairs, JSON Lines.")],
    model: ModelOption = "smollm2-135m-instruct",
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="LoRA adapter to measure; default: the model itself.")
    ] = None,
    incumbent: Annotated[
        Path | None, typer.Option("--incumbent", help="Adapter to compare with; default: the model itself.")
    ] = None,
    hub: HubOption = "huggingface",
    max_length: Annotated[int, typer.Option(help="Longest prompt plus completion, in tokens.")] = 1024,
    as_json: JsonOption = False,
) -> None:
    """Preference accuracy, margin and likelihood with 95 % intervals, and perplexity on fixed text."""
    with told():
        from alignment.adapter.merge import adapter_rank
        from alignment.jobs.contracts import EvaluateJob
        from alignment.jobs.work import evaluate as evaluate_job

        for folder in (adapter, incumbent):
            if folder is not None:
                adapter_rank(folder)
        result = evaluate_job(
            EvaluateJob(
                base_folder=find_model(model, hub),
                candidate=adapter,
                incumbent=incumbent,
                pairs_file=dataset,
                max_length_tokens=max_length,
            )
        )
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _tell(result)


def _tell(result: "EvaluateResult") -> None:
    typer.echo(f"{result.pairs} pairs about {result.prompts} prompts")
    for reason, count in result.dropped.items():
        typer.echo(f"{count} pairs left out: {reason}")
    for name, value in sorted(result.metrics.items()):
        if isinstance(value, Interval):
            typer.echo(f"  {name:<32} {value.value:+.4f}   95 %: {value.low:+.4f} to {value.high:+.4f}")
        else:
            typer.echo(f"  {name:<32} {value:.3f}")
