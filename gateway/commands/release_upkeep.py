"""`alignway releases add|prune|pin|unpin`: another base model, and what is kept of old releases."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, print_json
from gateway.commands.serving import resolve_model
from gateway.commands.workplace import with_database
from gateway.contracts.release import BaseModelRef
from gateway.errors import NotFound
from gateway.rollout.adding import NewBase, add_base
from gateway.rollout.prune import Keeping, Pruned, prune
from gateway.routes.views import release_view
from gateway.settings import ModelSettings, Settings
from gateway.storage.audit import COMMAND_LINE, write_audit
from gateway.storage.database import Database
from gateway.storage.releases import find_release


def prune_(
    keep: Annotated[int | None, typer.Option(min=1, help="So many newest per alias. Default: releases.keep.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the weights of old releases; their cards stay. Nothing in use goes, nor what is pinned."""

    async def work(database: Database, settings: Settings) -> list[Pruned]:
        keeping = Keeping.of(settings, keep)
        return await prune(database, keeping, COMMAND_LINE, time.time(), dry_run)

    gone = with_database(config, data_dir, work)
    freed = sum(one.size_bytes for one in gone)
    if as_json:
        releases = [{"id": one.id, "name": one.name, "alias": one.alias, "size_bytes": one.size_bytes} for one in gone]
        print_json({"dry_run": dry_run, "freed_bytes": freed, "releases": releases})
        return
    table = Table(*copied("name"), "MB")
    for one in gone:
        table.add_row(one.name, f"{one.size_bytes / 1e6:.1f}")
    if gone:
        console.print(table)
    console.print(f"{len(gone)} releases, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}.")


def add(
    model: Annotated[str, typer.Option(help="Folder of the model, or its id on a hub.")],
    alias: Annotated[str, typer.Option(help="The alias that may serve it.")],
    reason: Annotated[str, typer.Option(help="Why it may serve: its quality is not measured here.")],
    hub: Annotated[str, typer.Option(help="huggingface or modelscope.")] = "huggingface",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register another base model of the same architecture as a release of an alias; promote it like any other."""
    found = resolve_model(ModelSettings.model_validate({"model": model, "alias": alias, "hub": hub}))
    reference = BaseModelRef.model_validate(found.reference)
    new = NewBase(alias, Path(found.folder), reference, reason, COMMAND_LINE)

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        async with database.write() as session:
            return release_view(await add_base(session, new, time.time()))

    release = with_database(config, data_dir, work)
    if as_json:
        print_json(release)
        return
    console.print(f"{release['name']} may be served: `alignway releases promote {release['name']} --reason ...`")
    for gate in release["gates"]:
        console.print(f"  {gate['gate']}: {gate['verdict']}: {gate['reason']}")


def pin(release: str, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Keep a release whatever `releases.keep` says."""
    _set_pin(release, True, config, data_dir)


def unpin(release: str, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Let a release go when it is old enough."""
    _set_pin(release, False, config, data_dir)


def _set_pin(release: str, pinned: bool, config: Path | None, data_dir: Path | None) -> None:
    async def work(database: Database, _: Settings) -> Any:
        async with database.write() as session:
            row = await find_release(session, release)
            if row is None:
                raise NotFound(f"There is no release {release}; `alignway releases list` shows those there are.")
            if row.pruned_at is not None:
                raise NotFound(f"The weights of {release} are gone already; there is nothing left to pin.")
            if row.pinned != pinned:
                action = "release.pinned" if pinned else "release.unpinned"
                await write_audit(session, actor=COMMAND_LINE, action=action, subject=row.id)
            row.pinned = pinned
            return row.name

    name = with_database(config, data_dir, work)
    console.print(f"{name} is {'pinned' if pinned else 'no longer pinned'}.")
