"""What the commands of the trainer share: options, and how an error is told. Light: `--help` loads no torch."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from alignment.base_models.resolve import WHICH_MODEL, resolve_model
from alignment.errors import AlignmentError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
HubOption = Annotated[str, typer.Option("--hub", help="Where an id is looked up: huggingface or modelscope.")]
ModelOption = Annotated[str, typer.Option("--model", help=WHICH_MODEL)]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell an error of the trainer in its own words and end with status 1; other errors are bugs and pass through."""
    try:
        yield
    except AlignmentError as error:
        raise refusal(error.message) from error


def refusal(message: str) -> typer.Exit:
    """Print why a command does not go on; raise what this returns."""
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(1)


def refuse_occupied(out: Path) -> None:
    """End unless a model can be written to `out`: a new folder, or an empty one."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refusal(f"{out} is there already; give a new folder, so that no half of another model stays in it")


def find_model(name: str, hub: str) -> Path:
    """The local folder of a model; fetched or converted first if need be."""
    return resolve_model(name, find_hub(hub))


def find_hub(hub: str) -> Literal["huggingface", "modelscope"]:
    """The hub of that name."""
    if hub not in ("huggingface", "modelscope"):
        raise refusal(f"--hub is huggingface or modelscope, not {hub}")
    return "huggingface" if hub == "huggingface" else "modelscope"


def print_json(value: Any) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
