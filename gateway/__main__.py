"""The command line: `alignway COMMAND`. Commands are found by the entry-point group `alignway.commands`."""

import sys
from importlib.metadata import entry_points
from typing import Any

import typer
from rich.console import Console

from gateway.errors import AlignwayError

GROUP = "alignway.commands"


def build_cli() -> typer.Typer:
    """The whole command line. An entry point is a function (a command) or a Typer (a group of commands)."""
    cli = typer.Typer(
        name="alignway",
        help="Serve a model behind the OpenAI API, learn from feedback, swap the better weights in.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    cli.callback()(_root)
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    asked = [point for point in points if point.name in sys.argv[1:2]]
    for point in asked or points:  # loading them all takes seconds: only help wants that
        command: Any = point.load()
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=point.name)
        else:
            cli.command(point.name)(command)
    return cli


def _root() -> None:
    """Serve a model behind the OpenAI API, learn from feedback, swap the better weights in."""


def main() -> None:
    """Run a command; an error a user can meet ends with its message, not with a traceback."""
    try:
        build_cli()()
    except AlignwayError as error:
        Console(stderr=True).print(f"[red]error[/red] ({error.code}): {error.message}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
