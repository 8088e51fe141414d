"""Options that every command takes, and how a command prints."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: alignway.toml if it is there.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Database, releases and logs; default: .alignway.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

console = Console(highlight=False, soft_wrap=True)
progress = Console(stderr=True)
"""Where spinners and bars go, so that standard output holds results alone."""


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
