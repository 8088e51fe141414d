"""`alignway chat`: talk to the served model from a terminal, and vote on what it says."""

from typing import Annotated, Any

import openai
import typer

from gateway.access.issue import note_new_key, revoke
from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, console, print_json
from gateway.commands.workplace import with_database
from gateway.errors import AlignwayError, InvalidRequest
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database

HELP = "Type a message. `/edit TEXT` says what it should have answered, `/new` starts over, `/quit` leaves."


def chat(
    message: Annotated[str | None, typer.Argument(help="Ask this and leave; without it, talk.")] = None,
    url: Annotated[str | None, typer.Option(help="Where Alignway is. Default: as the settings say.")] = None,
    key: Annotated[
        str | None, typer.Option(envvar="ALIGNWAY_API_KEY", help="Default: a key made for this chat.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Alias or release. Default: the first alias.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole reply as JSON; with a message.")] = False,
) -> None:
    """Talk to the model; answers can be corrected, and the corrections train it."""
    settings = load_settings(config, {"data_dir": data_dir})
    base = url or f"http://{settings.server.host}:{settings.server.port}"
    own = None if key else with_database(config, data_dir, _make_key)
    client = openai.OpenAI(base_url=f"{base.rstrip('/').removesuffix('/v1')}/v1", api_key=key or (own or ("", ""))[1])
    try:
        _talk(client, model or settings.models[0].alias, message, as_json)
    except openai.APIConnectionError as error:
        raise AlignwayError(f"Nothing answers at {base}. Start it with `alignway up`.", code="not_running") from error
    except openai.APIStatusError as error:
        raise InvalidRequest(error.message) from error
    finally:
        if own is not None:
            key_id = own[0]
            with_database(config, data_dir, lambda database, _: _revoke(database, key_id))


async def _make_key(database: Database, _: Settings) -> tuple[str, str]:
    async with database.write() as session:
        project = await keys.ensure_project(session)
        made, secret = await keys.create_key(
            session, project.id, "alignway chat", ("inference", "feedback", "feedback:write_text")
        )
        await note_new_key(session, made, COMMAND_LINE)
    return made.id, secret


async def _revoke(database: Database, key_id: str) -> None:
    async with database.write() as session:
        await revoke(session, key_id, COMMAND_LINE)


def _talk(client: openai.OpenAI, model: str, message: str | None, as_json: bool) -> None:
    if message is not None:
        reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": message}])
        if as_json:
            print_json(reply.model_dump())
        else:
            console.print(reply.choices[0].message.content, markup=False)
        return
    console.print(HELP, style="dim")
    turns: list[Any] = []
    last_id = ""
    while (said := _read()) not in (None, "/quit"):
        if said == "/new":
            turns.clear()
        elif said and said.startswith("/edit "):
            _correct(client, last_id, said.removeprefix("/edit ").strip())
        elif said:
            turns.append({"role": "user", "content": said})
            last_id = _answer(client, model, turns)


def _read() -> str | None:
    try:
        return console.input("[bold]> [/]").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(client: openai.OpenAI, model: str, turns: list[Any]) -> str:
    text, completion_id, release = "", "", ""
    for chunk in client.chat.completions.create(model=model, messages=turns, stream=True):
        completion_id, release = chunk.id, chunk.model
        if chunk.choices:
            piece = chunk.choices[0].delta.content or ""
            console.print(piece, end="", markup=False)
            text += piece
    console.print(f"\n[dim]{release}  {completion_id}[/]")
    turns.append({"role": "assistant", "content": text})
    return completion_id


def _correct(client: openai.OpenAI, completion_id: str, text: str) -> None:
    if not completion_id:
        console.print("There is no answer to correct yet.")
        return
    body = {
        "type": "correction",
        "target": {"completion_id": completion_id, "index": 0},
        "message": {"role": "assistant", "content": text},
    }
    vote: Any = client.post("/feedback", body=body, cast_to=object)
    states = ", ".join(pair["state"] for pair in vote["pairs"]) or "no pair"
    console.print(f"[dim]{vote['id']}: {states}[/]")
