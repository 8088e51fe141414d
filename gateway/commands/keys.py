"""`alignway keys create|list|rotate|revoke|usage`."""

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.caller import DEFAULT_SCOPES, SCOPES, KeyLimits
from gateway.access.issue import checked_terms, issue_key, key_view, moment, revoke, rotate
from gateway.access.secrets import Secrets
from gateway.access.usage import UsageQuestion, answer_usage, checked_group
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, folded, print_json
from gateway.commands.workplace import with_database
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database

T = TypeVar("T")
app = typer.Typer(help="API keys: make, list, rotate and revoke them; see what they used.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    scopes: Annotated[str, typer.Option(help=f"Comma-separated; of: {', '.join(SCOPES)}.")] = ",".join(DEFAULT_SCOPES),
    project: Annotated[str, typer.Option(help="Whose key; a new name makes a new project.")] = keys.DEFAULT_PROJECT,
    expires_in: Annotated[str | None, typer.Option(help="Such as 12h or 30d; default: never.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Default: `limits` in the settings.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Prompt and completion together.")] = None,
    streams: Annotated[int | None, typer.Option(help="Requests open at once.")] = None,
    images: Annotated[bool, typer.Option("--images", help="May send bodies up to 32 MiB.")] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="May its chats and votes make pairs?")] = True,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown once, now."""
    terms = checked_terms(expires_in, None, KeyLimits(requests_per_minute, tokens_per_minute, streams), images, train)

    async def work(session: AsyncSession) -> tuple[dict[str, Any], str]:
        key, secret = await issue_key(session, project, name, scopes.split(","), terms, COMMAND_LINE)
        return key_view(key, time.time()), secret

    key, secret = _in_transaction(config, data_dir, work)
    if as_json:
        print_json({"id": key["id"], "key": secret, "scopes": key["scopes"]})
        return
    console.print(f"{secret}\n\nKey {key['id']} ({', '.join(key['scopes'])}). It cannot be shown again.")
    if key["expires_at"] is not None:
        console.print(f"It works until {moment(key['expires_at'])}.")


@app.command("list")
def list_(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List keys, without their secrets."""

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.read() as session:
            return [key_view(key, time.time()) for key in await keys.list_keys(session)]

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    table = Table(*copied("id"), "name", *folded("scopes", "limits"), "created", "state")
    for key in found:
        until = f" until {moment(key['expires_at'])}" if key["expires_at"] and key["state"] == "active" else ""
        scopes, created = ", ".join(key["scopes"]), moment(key["created_at"])
        table.add_row(key["id"], key["name"], scopes, _limits(key), created, key["state"] + until)
    console.print(table)


@app.command("rotate")
def rotate_(
    key_id: str,
    grace: Annotated[str, typer.Option(help="How long the old secret goes on working; 0s: not at all.")] = "1h",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret, shown once, now; the old one works until the grace is over."""

    async def work(session: AsyncSession) -> tuple[dict[str, Any], str]:
        key, secret = await rotate(session, key_id, grace, COMMAND_LINE)
        return key_view(key, time.time()), secret

    key, secret = _in_transaction(config, data_dir, work)
    until = key["previous_secret_works_until"]
    if as_json:
        print_json({"id": key["id"], "key": secret, "scopes": key["scopes"], "previous_secret_works_until": until})
        return
    old = f"works until {moment(until)}" if until else "stops working within a second"
    console.print(f"{secret}\n\nThe new secret of {key_id}; it cannot be shown again. The old one {old}.")


@app.command("revoke")
def revoke_(
    key_id: str, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Turn a key off for good, on every worker within a second."""

    async def work(session: AsyncSession) -> None:
        await revoke(session, key_id, COMMAND_LINE)

    _in_transaction(config, data_dir, work)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        console.print(f"{key_id} is revoked.")


@app.command("usage")
def usage(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11, in UTC; default: this one.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this key alone (its id).")] = None,
    user: Annotated[str | None, typer.Option(help="Of this end user alone, as clients name them in `user`.")] = None,
    group_by: Annotated[str, typer.Option(help="key, or user: by key and end user (as a hash).")] = "key",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what keys used in a month: requests and tokens."""
    question = UsageQuestion(month, key, user, checked_group(group_by))

    async def work(session: AsyncSession) -> list[dict[str, Any]]:
        secrets = Secrets(await keys.ensure_root_secret(session))
        return await answer_usage(session, secrets, question)

    rows = _in_transaction(config, data_dir, work)
    if as_json:
        print_json(rows)
        return
    columns = ["key", "key_name", "user", "requests", "prompt_tokens", "completion_tokens", "total_tokens"]
    shown = [name for name in columns if name != "user" or group_by == "user"]
    table = Table(*shown, title=f"Usage in {question.checked_month()} (UTC)")
    for row in rows:
        table.add_row(*(str(row[name]) for name in shown))
    console.print(table)


def _in_transaction(config: Any, data_dir: Any, work: Callable[[AsyncSession], Coroutine[Any, Any, T]]) -> T:
    async def run(database: Database, _: Settings) -> T:
        async with database.write() as session:
            return await work(session)

    return with_database(config, data_dir, run)


def _limits(key: dict[str, Any]) -> str:
    names = (("requests_per_minute", "requests/min"), ("tokens_per_minute", "tokens/min"), ("streams", "streams"))
    limits = [f"{key[name]} {unit}" for name, unit in names if key[name] is not None]
    flags = [name for name, set_ in (("images", key["images"]), ("no training", not key["train"])) if set_]
    return ", ".join(limits + flags)
