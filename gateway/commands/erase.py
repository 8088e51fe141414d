"""`alignway erase`: delete everything about a user, on the records directly."""

import asyncio
from typing import Annotated, Any, cast, get_args

import typer

from gateway.access.secrets import Secrets
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json, progress
from gateway.commands.workplace import with_database
from gateway.contracts import ids
from gateway.errors import InvalidRequest
from gateway.privacy.erasure import Policy, carry_out, erasure_view, find_erasure, request_erasure
from gateway.privacy.turns import turn
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.keys import ensure_root_secret
from gateway.storage.privacy_tables import Erasure

LOOK_SECONDS = 0.5
STEPS = {
    "queued": "waiting",
    "rows": "deleting rows",
    "datasets": "searching data sets",
    "releases": "marking releases",
}


def erase(
    user: Annotated[str, typer.Option(help="The name that clients send as user, safety_identifier or rater.id.")],
    project: Annotated[str | None, typer.Option(help="In this project alone (id or name); default: in all.")] = None,
    policy: Annotated[
        str, typer.Option(help="For releases trained on this user: flag, schedule_retrain or block.")
    ] = "flag",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the completions, votes and pairs of a user for good, also from frozen data sets."""
    if policy not in get_args(Policy):
        raise InvalidRequest(f"--policy is one of {', '.join(get_args(Policy))}, not `{policy}`.", param="policy")

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.write() as session:
            secrets = Secrets(await ensure_root_secret(session))
            asked = await request_erasure(session, secrets, user, cast(Policy, policy), COMMAND_LINE, project)
        with progress.status("erasing") as status:

            def show(erasure: Erasure) -> None:
                counted = ", ".join(f"{name} {number}" for name, number in sorted(erasure.counts.items()))
                status.update(f"{STEPS.get(erasure.state, erasure.state)} {counted}")

            return erasure_view(await _finish(database, settings, asked.id, show))

    done = with_database(config, data_dir, work)
    if as_json:
        print_json(done)
    else:
        _print(done)


async def _finish(database: Database, settings: Settings, erasure_id: str, show: Any) -> Erasure:
    """Carry the erasure out, or follow it while a gateway is at it."""
    holder = f"{COMMAND_LINE} {ids.ulid()}"
    while True:
        async with turn(database, holder) as ours:
            if ours:
                return await carry_out(database, settings.store_path, erasure_id, show)
        async with database.read() as session:
            erasure = await find_erasure(session, erasure_id)
        show(erasure)
        if erasure.state == "done":
            return erasure
        await asyncio.sleep(LOOK_SECONDS)


def _print(done: dict[str, Any]) -> None:
    counted = ", ".join(f"{number} {name}" for name, number in sorted(done["counts"].items())) or "nothing"
    console.print(f"{done['id']}: deleted {counted}.")
    for dataset in done["datasets"]:
        console.print(f"Data set {dataset['id']} is replaced by {dataset['replaced_by'] or 'none: nothing was left'}.")
    releases = done["tainted_releases"]
    if releases:
        console.print(f"Trained on what was erased: {', '.join(releases)}.")
    if done["runs"]:
        console.print(f"Queued to train without it: {', '.join(done['runs'])}.")
    elif releases:
        console.print("To train without it: POST /admin/v1/retrain, or --policy schedule_retrain.")
    console.print(f"Receipt: sha256 {done['receipt']['sha256']}.")
