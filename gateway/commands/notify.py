"""`alignway notify test`: try out whom `notify` names."""

import asyncio
import time

import aiohttp
import typer

from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.contracts import ids
from gateway.contracts.notice import TEST
from gateway.errors import AlignwayError, InvalidRequest
from gateway.notify.sending import Answer, send
from gateway.notify.texts import Message
from gateway.sections.notify import NotifySettings

app = typer.Typer(help="Notifications: send a test message to every target.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `test` a command of its own, though there is no other."""


@app.command("test")
def try_targets(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Send a test message to every target, and tell what each answered. Needs no gateway."""
    settings = load_settings(config, {"data_dir": data_dir}).notify
    if not settings.everybody:
        raise InvalidRequest('Nobody is told: set notify.urls = ["https://..."] in alignway.toml.', param="notify.urls")
    answers = asyncio.run(try_out(settings))
    told = zip(settings.everybody, answers, strict=True)
    rows = [{"target": t.label, "kind": t.shape, "taken": a.taken, "answer": a.detail} for t, a in told]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            verdict = "[green]taken[/]" if row["taken"] else "[red]refused[/]"
            console.print(f"{row['target']} ({row['kind']}): {verdict}:", end=" ")
            console.print(row["answer"], markup=False, highlight=False)
    refused = [str(row["target"]) for row in rows if not row["taken"]]
    if refused:
        text = f"{', '.join(refused)} did not take the message; mend the URL, the kind or the secret under `notify`."
        raise AlignwayError(text, code="notification_refused")


async def try_out(settings: NotifySettings) -> list[Answer]:
    """Send a test message to everybody at once; returns what each answered."""
    message = Message(ids.mint(ids.NOTIFICATION), TEST, "", {}, time.time())
    async with aiohttp.ClientSession(trust_env=True) as http:
        tries = [send(http, target, message, settings.timeout_seconds) for target in settings.everybody]
        return await asyncio.gather(*tries)
