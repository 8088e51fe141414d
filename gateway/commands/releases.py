"""`alignway releases list|show|promote|rollback|...`: on the records directly; running gateways carry it out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.commands import release_upkeep
from gateway.commands.gates_table import print_report
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, folded, print_json
from gateway.commands.rollout_table import print_rollout
from gateway.commands.workplace import with_database
from gateway.contracts.gate_report import GateReport
from gateway.contracts.release import MERGED_FOLDER
from gateway.errors import AlignwayError, InvalidRequest, NotFound
from gateway.rollout.by_address import find_servers, promote_at
from gateway.rollout.disk import require_room
from gateway.rollout.gate_report import find_report
from gateway.rollout.promotion import Promotion, Strategy, roll_back
from gateway.routes.views import canary_view, release_view, rollout_view
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.releases import find_release, list_releases
from gateway.storage.rollouts import list_rollouts, steps_of
from gateway.storage.tables import Alias, ReleaseRow, Rollout

app = typer.Typer(help="Releases: list and show them, promote one, roll back.", no_args_is_help=True)
app.command("add")(release_upkeep.add)
app.command("prune")(release_upkeep.prune_)
app.command("pin")(release_upkeep.pin)
app.command("unpin")(release_upkeep.unpin)
FOLLOW_SECONDS = 300.0
ENDED = ("promoted", "rolled_back", "stopped")

AliasOption = Annotated[str | None, typer.Option("--alias", help="Which alias; may be left out where there is one.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with the rollout.")]


@app.command("list")
def list_(
    alias: AliasOption = None, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List releases, newest first; the one that serves is marked."""

    async def work(database: Database, _: Settings) -> tuple[list[dict[str, Any]], set[str]]:
        async with database.read() as session:
            serving = set(await session.scalars(select(Alias.serving_release_id)))
            return [release_view(row) for row in await list_releases(session, alias)], serving

    found, serving = with_database(config, data_dir, work)
    for release in found:
        release["serving"] = release["id"] in serving
    if as_json:
        print_json(found)
        return
    table = Table("", *copied("name"), "state", "gates", "made")
    for release in found:
        verdicts = {gate["verdict"] for gate in release["gates"]}
        gates = next((word for word in ("block", "warn", "pass") if word in verdicts), "-")
        made = f"{datetime.fromtimestamp(release['created_at'], UTC):%Y-%m-%d %H:%M}"
        table.add_row("*" if release["serving"] else "", release["name"], release["state"], gates, made)
    console.print(table)
    console.print(
        "* serves. Show one with `alignway releases show NAME`; serve it with `alignway releases promote NAME`."
    )


@app.command("show")
def show(
    release: str, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show a release: where it comes from, its metrics, its gates."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.read() as session:
            row = await find_release(session, release)
        if row is None:
            raise NotFound(f"There is no release {release}; `alignway releases list` shows those there are.")
        return release_view(row) | {"weights": _weights_at(row, settings)}

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    for name in ("name", "id", "alias", "kind", "state", "parent", "method", "dataset", "run", "weights"):
        console.print(f"{name:10} {found[name] or '-'}")
    if found["metrics"]:
        table = Table("metric", "value")
        for name, value in found["metrics"].items():
            table.add_row(name, _short(value))
        console.print(table)
    if found["gates"]:
        table = Table("gate", "verdict", "value", "limit", "95 %", "n", *folded("reason"))
        for gate in found["gates"]:
            figures = (_short(gate["value"]), _short(gate["limit"]), _bounds(gate), str(gate.get("n") or "-"))
            table.add_row(gate["gate"], gate["verdict"], *figures, gate["reason"])
        console.print(table)


@app.command("gates")
def gates(
    release: str, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show what its gates say of a release: every figure beside its limit, and the most changed answers."""

    async def work(database: Database, settings: Settings) -> GateReport:
        return await find_report(database, settings, release)

    report = with_database(config, data_dir, work)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_report(report)


@app.command("promote")
def promote_(
    release: str,
    alias: AliasOption = None,
    strategy: Annotated[
        str, typer.Option(help="immediate, or canary: 5 %, then 25 % of the traffic first.")
    ] = "immediate",
    expected_current: Annotated[str | None, typer.Option(help="Refuse if anything else serves by now.")] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Where a server runs that you started on the release; may be given several times."),
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="What that server calls the release. Default: the release's name or id.")
    ] = None,
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option(help="Follow the rollout to its end.")] = True,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a release under its alias. Running streams are not dropped.

    With --url, from a server of yours that holds the release already; the one before it can be gone back to at once.
    """
    if strategy not in ("immediate", "canary"):
        raise InvalidRequest("--strategy is immediate or canary.", param="strategy")
    chosen: Strategy = "canary" if strategy == "canary" else "immediate"

    async def begin(database: Database, name: str, settings: Settings) -> Rollout:
        require_room(settings.store_path, settings.releases.min_free_disk_mib)
        servers = await find_servers(database, name, release, url or (), served_model)
        first_share = settings.canary.steps[0]
        asked = Promotion(name, release, chosen, COMMAND_LINE, reason, expected_current, first_share)
        async with database.write() as session:
            return await promote_at(session, asked, servers, time.time())

    _begin_and_follow(begin, alias, release, config, data_dir, wait and chosen == "immediate", as_json)
    if url and not as_json:
        console.print(
            "The server before gets nothing new. Leave it running: `alignway releases rollback` goes back to it at "
            "once. GET /admin/v1/replicas shows what is in flight at each."
        )


@app.command("rollback")
def rollback(
    alias: AliasOption = None,
    to: Annotated[str | None, typer.Option(help="Release to go back to. Default: what was served before.")] = None,
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option(help="Follow the rollout to its end.")] = True,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve again what was served before."""

    async def begin(database: Database, name: str, _: Settings) -> Rollout:
        async with database.write() as session:
            return await roll_back(session, name, to, COMMAND_LINE, reason)

    _begin_and_follow(begin, alias, to, config, data_dir, wait, as_json)


@app.command("rollout")
def rollout_(
    alias: AliasOption = None, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show the newest rollout: how far its canary is, what it waits for, and the evidence."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.read() as session:
            name = alias or await _alias_of(session, None)
            newest = await list_rollouts(session, name, limit=1)
            if not newest:
                raise NotFound(f"There was no rollout of `{name}` yet; `alignway releases promote` begins one.")
            candidate = await session.get(ReleaseRow, newest[0].candidate_id)
            canary = canary_view(newest[0], candidate, settings.canary, time.time())
            return rollout_view(newest[0], await steps_of(session, newest[0].id)) | {"canary": canary}

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
    else:
        print_rollout(found)


def _begin_and_follow(
    begin: Callable[[Database, str, Settings], Awaitable[Rollout]],
    alias: str | None,
    release: str | None,
    config: Path | None,
    data_dir: Path | None,
    wait: bool,
    as_json: bool,
) -> None:
    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.read() as session:
            name = alias or await _alias_of(session, release)
        rollout = await begin(database, name, settings)
        return await _follow(database, rollout.id, quiet=as_json) if wait else rollout_view(rollout)

    ended = with_database(config, data_dir, work)
    if as_json:
        print_json(ended)
    else:
        console.print(f"{ended['alias']}: rollout {ended['id']} is {ended['state']}. {ended['detail']}")
        if ended["strategy"] == "canary" and ended["state"] not in ENDED:
            console.print("It goes on by itself; look with `alignway releases rollout`.")
    if wait and ended["state"] not in ENDED:
        raise AlignwayError(
            "The rollout has not ended yet. Is a gateway running? It goes on by itself; follow it with GET "
            f"/admin/v1/rollouts/{ended['id']}.",
            code="rollout_open",
        )


async def _alias_of(session: AsyncSession, release: str | None) -> str:
    if release is not None:
        row = await find_release(session, release)
        if row is not None:
            return row.alias
    names = (await session.scalars(select(Alias.name))).all()
    if len(names) != 1:
        raise InvalidRequest(f"Say which alias with --alias; there are: {', '.join(names) or 'none'}.", param="alias")
    return names[0]


async def _follow(database: Database, rollout_id: str, quiet: bool) -> dict[str, Any]:
    shown, deadline = "", time.monotonic() + FOLLOW_SECONDS
    while True:
        async with database.read() as session:
            rollout = await session.get_one(Rollout, rollout_id)
        if rollout.state != shown and not quiet:
            console.print(f"  {rollout.state:10} {rollout.detail}")
            shown = rollout.state
        if rollout.state in ENDED or time.monotonic() > deadline:
            return rollout_view(rollout)
        await asyncio.sleep(0.2)


def _weights_at(row: ReleaseRow, settings: Settings) -> str:
    """Where the release's full weights lie, for whoever starts a server on them."""
    if row.kind == "base":
        return row.location
    store = settings.store.url.rstrip("/") if settings.store.url else str(settings.store_path.resolve())
    return f"{store}/{row.location}/{MERGED_FOLDER}"


def _bounds(gate: dict[str, Any]) -> str:
    low, high = gate.get("low"), gate.get("high")
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    return str(value)
