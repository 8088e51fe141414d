"""`alignway models pull|path`: from a model's name to a folder on this machine."""

from typing import Annotated

import typer

from alignment.base_models.resolve import WHICH_MODEL
from alignment.commands.options import HubOption, JsonOption, find_model, print_json, told

app = typer.Typer(help="Base models: fetch one, or say where it lies.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help=WHICH_MODEL)]


@app.command("pull")
def pull(model: ModelArgument, hub: HubOption = "huggingface", as_json: JsonOption = False) -> None:
    """Fetch a model, or convert the bundled one, so that serving and training find it."""
    _find_and_print(model, hub, as_json)


@app.command("path")
def path(model: ModelArgument, hub: HubOption = "huggingface", as_json: JsonOption = False) -> None:
    """The folder of a model; fetched first if need be."""
    _find_and_print(model, hub, as_json)


def _find_and_print(model: str, hub: str, as_json: bool) -> None:
    from alignment.base_models.identity import describe

    with told():
        folder = find_model(model, hub)
        reference = describe(folder)
    if as_json:
        print_json({"folder": str(folder), "base": reference.model_dump()})
    else:
        typer.echo(str(folder))
