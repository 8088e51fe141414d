"""`alignway keys create|list|revoke`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.access.authenticate import assert_known
from gateway.access.caller import DEFAULT_SCOPES, SCOPES
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.commands.workplace import with_database
from gateway.errors import InvalidRequest, NotFound
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.tables import ApiKey

app = typer.Typer(help="API keys: make, list and revoke them.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    scopes: Annotated[str, typer.Option(help=f"Comma-separated; of: {', '.join(SCOPES)}.")] = ",".join(DEFAULT_SCOPES),
    project: Annotated[str, typer.Option(help="Whose key; a new name makes a new project.")] = keys.DEFAULT_PROJECT,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown once, now."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    for scope in wanted:
        try:
            assert_known(scope)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="scopes") from error

    async def work(database: Database, _: Settings) -> tuple[ApiKey, str]:
        async with database.write() as session:
            owner = await keys.ensure_project(session, project)
            return await keys.create_key(session, owner.id, name, wanted)

    key, secret = with_database(config, data_dir, work)
    if as_json:
        print_json({"id": key.id, "key": secret, "scopes": key.scopes})
        return
    console.print(f"{secret}\n\nKey {key.id} ({', '.join(key.scopes)}). It cannot be shown again.")


@app.command("list")
def list_(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List keys, without their secrets."""

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.read() as session:
            return [_view(key) for key in await keys.list_keys(session)]

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    table = Table("id", "name", "project", "scopes", "created", "state")
    for key in found:
        state = "revoked" if key["revoked_at"] else "active"
        created = f"{datetime.fromtimestamp(key['created_at'], UTC):%Y-%m-%d %H:%M}"
        table.add_row(key["id"], key["name"], key["project_id"], ", ".join(key["scopes"]), created, state)
    console.print(table)


@app.command("revoke")
def revoke(
    key_id: str, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Turn a key off for good, on every worker within a second."""

    async def work(database: Database, _: Settings) -> bool:
        async with database.write() as session:
            return await keys.revoke_key(session, key_id)

    if not with_database(config, data_dir, work):
        raise NotFound(f"There is no key {key_id}; `alignway keys list` shows those there are.")
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        console.print(f"{key_id} is revoked.")


def _view(key: ApiKey) -> dict[str, Any]:
    names = ("id", "name", "project_id", "scopes", "created_at", "expires_at", "revoked_at")
    return {name: getattr(key, name) for name in names}
