"""`alignway feedback import|export|stats`: on the records directly; running gateways and aligners see them at once."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.secrets import Secrets
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json, progress
from gateway.commands.workplace import with_database
from gateway.contracts.pair import FeedbackPair, Rater
from gateway.errors import InvalidRequest
from gateway.feedback.file_imports import FileImport, FileToImport, Operation, import_file
from gateway.feedback.import_store import ImportStore, ImportTerms, StoredImports
from gateway.feedback.imports import InvalidPairs
from gateway.feedback.stats import FeedbackStats, feedback_stats
from gateway.formats.pairs import FORMATS, FormatName
from gateway.formats.writing import WRITABLE, WritableFormat, row_of
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE, write_audit
from gateway.storage.database import Database
from gateway.storage.feedback_stats import eligible_bodies
from gateway.storage.keys import ensure_project, ensure_root_secret
from gateway.storage.tables import Alias

app = typer.Typer(help="Feedback: bring pairs in, take them out, count what there is.", no_args_is_help=True)
SHOWN_ERRORS = 20

AliasOption = Annotated[str | None, typer.Option("--alias", help="Which alias; may be left out where there is one.")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON Lines, a JSON array, or Parquet.")],
    source: Annotated[str, typer.Option(help="Where the pairs come from, such as crm-2026; rows may say their own.")],
    licence: Annotated[str, typer.Option(help="Under which licence they may be used; rows may say their own.")],
    alias: AliasOption = None,
    on_error: Annotated[str, typer.Option(help="stop: a bad row stops all; skip: leave bad rows out.")] = "stop",
    format_: Annotated[str, typer.Option("--format", help=f"auto, or one of {', '.join(FORMATS)}.")] = "auto",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import preference pairs. What is there already is not doubled, so an import that broke off can be run again."""
    if on_error not in ("stop", "skip"):
        raise InvalidRequest("--on-error is stop or skip.", param="on_error")
    to_import = FileToImport(file, _format(format_), on_error == "skip")

    async def work(database: Database, settings: Settings) -> FileImport:
        store, terms = await _terms(database, settings, alias, source, licence)

        async def commit(operation: Operation) -> StoredImports:
            async with database.write() as session:
                return await operation(session)

        with _bar() as show:
            result = await import_file(to_import, terms, store, commit, show)
        async with database.write() as session:
            after = {"file": file.name, "source": source, "licence": licence, "pairs": result.pairs, "new": result.new}
            await write_audit(session, actor=COMMAND_LINE, action="feedback.imported", subject=terms.alias, after=after)
        return result

    try:
        result = with_database(config, data_dir, work)
    except InvalidPairs as error:
        _show_errors(error.details)
        raise
    if as_json:
        print_json(result.as_json)
        return
    _show_errors(result.errors)
    console.print(_told(result))


@app.command("export")
def export(
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(WRITABLE)}.")] = "alignway",
    out: Annotated[Path | None, typer.Option("--out", help="A JSON Lines file; default: standard output.")] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Of this alias alone; default: of all.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write every pair that may train as JSON Lines. Only the format alignway says who judged (as a hash), and when."""
    wanted = _writable(format_)

    async def work(database: Database, _: Settings) -> int:
        with _opened(out) as lines:
            return await _write(eligible_bodies(database, alias), wanted, lines)

    count = with_database(config, data_dir, work)
    if as_json and out is not None:
        print_json({"pairs": count, "format": wanted, "file": str(out)})
    elif out is not None:
        console.print(f"{count} pairs are in {out}. Import them elsewhere with `alignway feedback import {out}`.")


@app.command("stats")
def stats(
    alias: Annotated[str | None, typer.Option("--alias", help="Of this alias alone; default: of all.")] = None,
    days: Annotated[int, typer.Option(help="Votes by day, for so many days back.", min=1, max=3660)] = 30,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count votes by type and day, pairs by state and reason, raters and sources."""

    async def work(database: Database, _: Settings) -> FeedbackStats:
        async with database.read() as session:
            return await feedback_stats(session, alias, time.time() - (days - 1) * 86400)

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    for title, rows in found.items():
        table = Table(*(rows[0] if rows else ["(none)"]), title=title.replace("_", " "), title_justify="left")
        for row in rows:
            table.add_row(*("-" if value is None else str(value) for value in row.values()))
        console.print(table)


async def _terms(
    database: Database, settings: Settings, alias: str | None, source: str, licence: str
) -> tuple[ImportStore, ImportTerms]:
    async with database.write() as session:
        secrets = Secrets(await ensure_root_secret(session))
        name, project_id = await _alias(session, settings, alias)
    rater = Rater(id_hash="r_" + secrets.keyed_hash("rater", COMMAND_LINE), kind="end_user", trusted=True)
    terms = ImportTerms(project_id, COMMAND_LINE, name, _label(source, "source"), _label(licence, "licence"), rater, {})
    return ImportStore(settings.feedback), terms


async def _alias(session: AsyncSession, settings: Settings, wanted: str | None) -> tuple[str, str]:
    """The alias to import for and its project; before the first start, those that the settings name will be."""
    own = await ensure_project(session)
    known = {model.alias: own.id for model in settings.models if model.task == "chat"}
    for row in await session.scalars(select(Alias).where(Alias.task == "chat")):
        known[row.name] = row.project_id
    if wanted is None and len(known) == 1:
        wanted = next(iter(known))
    if wanted not in known:
        raise InvalidRequest(
            f"Say with --alias which alias the pairs may train; there are: {', '.join(sorted(known)) or 'none'}.",
            param="alias",
            code="unknown_alias",
        )
    return str(wanted), known[str(wanted)]


def _label(text: str, name: str) -> str:
    if not 1 <= len(text) <= 256:
        raise InvalidRequest(f"--{name} takes 1 to 256 characters.", param=name)
    return text


def _format(name: str) -> FormatName | None:
    if name == "auto":
        return None
    found = next((one for one in FORMATS if one == name), None)
    if found is None:
        raise InvalidRequest(f"--format is auto or one of {', '.join(FORMATS)}.", param="format")
    return found


def _writable(name: str) -> WritableFormat:
    found = next((one for one in WRITABLE if one == name), None)
    if found is None:
        raise InvalidRequest(f"--format is one of {', '.join(WRITABLE)}.", param="format")
    return found


@contextmanager
def _bar() -> Iterator[Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=progress, transient=True) as shown:
        task = shown.add_task("read", total=None)

        def show(stage: str, done: int, total: int | None) -> None:
            shown.update(task, description=stage, completed=done, total=total)

        yield show


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise InvalidRequest(f"{out} cannot be written: {error.strerror or error}.", param="out") from error


async def _write(bodies: AsyncIterator[dict[str, Any]], format_: WritableFormat, lines: TextIO) -> int:
    count = 0
    async for body in bodies:
        row = row_of(FeedbackPair.model_validate(body), format_)
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    await asyncio.to_thread(lines.flush)
    return count


def _show_errors(errors: list[dict[str, Any]]) -> None:
    for error in errors[:SHOWN_ERRORS]:
        progress.print(f"line {error['line']}: {error['code']}: {error['message']}", highlight=False, markup=False)
    if len(errors) > SHOWN_ERRORS:
        progress.print(f"and {len(errors) - SHOWN_ERRORS} more", highlight=False)


def _told(result: FileImport) -> str:
    told = f"{result.new} pairs are new, {result.known} were there already"
    told += f", {result.revised} are there again" if result.revised else ""
    told += f"; {result.skipped} bad rows were left out" if result.skipped else ""
    if result.without_pair:
        told += f"; {result.without_pair} ratings compare nothing and make no pair"
    return f"{told}. See what they add to with `alignway feedback stats`."
