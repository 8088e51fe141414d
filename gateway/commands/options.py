"""Options that every command takes, and how a command prints."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column

PIPED_COLUMNS = 200
"""Of tables that go into a file or another program, where nothing says how wide it is."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: alignway.toml if it is there.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Database, releases and logs; default: .alignway.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
progress = Console(stderr=True)
"""Where spinners and bars go, so that standard output holds results alone."""


def copied(*titles: str) -> list[Column]:
    """Columns whose texts people copy into the next command: they give way last, and are folded, never cut."""
    return [Column(title, no_wrap=True, overflow="fold") for title in titles]


def folded(*titles: str) -> list[Column]:
    """Columns of long texts: in a narrow terminal they go on in the next line, and are not cut."""
    return [Column(title, overflow="fold") for title in titles]


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
