"""`alignway models pull|path`: from a model's name to a folder on this machine."""

import json
from typing import Annotated, cast

import typer

from alignment.errors import AlignmentError

app = typer.Typer(help="Base models: fetch one, or say where it lies.", no_args_is_help=True)

HubOption = Annotated[str, typer.Option("--hub", help="Where an id is looked up: huggingface or modelscope.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NAME_HELP = (
    "A folder, a Hugging Face or ModelScope id, or smollm2-135m-instruct (small, English). For Chinese take "
    "Qwen/Qwen2.5-1.5B-Instruct: 3.1 GB of weights, 6.2 GB of memory to train in float32."
)


@app.command("pull")
def pull(
    model: Annotated[str, typer.Argument(help=NAME_HELP)], hub: HubOption = "huggingface", as_json: JsonOption = False
) -> None:
    """Fetch a model, or convert the bundled one, so that serving and training find it."""
    _resolve_and_print(model, hub, as_json)


@app.command("path")
def path(
    model: Annotated[str, typer.Argument(help=NAME_HELP)], hub: HubOption = "huggingface", as_json: JsonOption = False
) -> None:
    """The folder of a model; fetched first if need be."""
    _resolve_and_print(model, hub, as_json)


def _resolve_and_print(model: str, hub: str, as_json: bool) -> None:
    from alignment.base_models.identity import describe
    from alignment.base_models.resolve import Hub, resolve_model

    if hub not in ("huggingface", "modelscope"):
        typer.echo("error: --hub is huggingface or modelscope", err=True)
        raise typer.Exit(1)
    try:
        folder = resolve_model(model, cast(Hub, hub))
        reference = describe(folder)
    except AlignmentError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "base": reference.model_dump()}))
    else:
        typer.echo(str(folder))
