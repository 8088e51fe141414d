"""`alignway up`: everything on one machine, supervised. Ctrl-C drains."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from gateway.bootstrap import ResolvedModel
from gateway.commands.configuration import checked_settings, load_settings
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json, progress
from gateway.commands.serving import (
    agent_spec,
    aligner_spec,
    listening_socket,
    only_one,
    prepare,
    resolve_model,
    run_async,
    shown_url,
    worker_specs,
)
from gateway.commands.workplace import make_data_dir
from gateway.engines.vllm import parsers_for
from gateway.errors import StartupFailed
from gateway.logs import configure_logs
from gateway.settings import DEFAULT_MODEL, Settings
from gateway.supervisor import Supervisor

READY_SECONDS = 900.0
MODEL_HELP = (
    f"A folder, a Hugging Face or ModelScope id, or {DEFAULT_MODEL} (default; English only). For Chinese take "
    "Qwen/Qwen2.5-1.5B-Instruct: 3.1 GB of weights, 8 GB of free memory to serve and 12 GB to train on a CPU."
)

SNIPPET = """from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
reply = client.chat.completions.create(
    model="{alias}", messages=[{{"role": "user", "content": "Why is the sky blue?"}}]
)
print(reply.choices[0].message.content)"""


def up(
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    alias: Annotated[str | None, typer.Option(help="The model name clients use. Default: assistant.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="vllm, lmdeploy, scripted, or the URL of a running engine; several by commas.")
    ] = None,
    hub: Annotated[str | None, typer.Option(help="huggingface or modelscope.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes. Default: 1.")] = None,
    auth: Annotated[str | None, typer.Option(help="on, or off (loopback only; any api_key is let in).")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a model and its alignment loop on this machine until Ctrl-C."""
    settings = with_model_flags(
        load_settings(
            config,
            {
                "data_dir": data_dir,
                "server.host": host,
                "server.port": port,
                "server.workers": workers,
                "server.auth": auth,
            },
        ),
        model=model,
        alias=alias,
        engine=engine,
        hub=hub,
    )
    configure_logs()
    make_data_dir(settings)
    with only_one(settings.data_dir, "up"):
        run_async(_up(settings, as_json))


def with_model_flags(settings: Settings, **flags: str | None) -> Settings:
    """The flags of the command line applied to the one `[[models]]` entry."""
    given = {name: value for name, value in flags.items() if value is not None}
    if not given:
        return settings
    if len(settings.models) != 1:
        raise StartupFailed(
            f"--{next(iter(given))} works with one model; the settings have {len(settings.models)} [[models]] entries. "
            "Set it there.",
            code="invalid_settings",
        )
    entry = settings.models[0].model_dump()
    engine = given.pop("engine", None)
    if engine is not None:
        urls = engine.split(",") if engine.startswith(("http://", "https://")) else []
        entry["engine"] |= {"kind": "url" if urls else engine, "url": None, "urls": urls}
    return load_settings_again(settings, entry | given)


def load_settings_again(settings: Settings, entry: dict[str, Any]) -> Settings:
    """The settings with another model entry, checked as if it had come from the file."""
    return checked_settings(settings.model_dump() | {"models": [entry]})


async def _up(settings: Settings, as_json: bool) -> None:
    began = time.monotonic()
    listener = listening_socket(settings.server.host, settings.server.port)
    supervisor = Supervisor()
    stopping = _signals()
    try:
        with progress.status("making the model ready ..."):
            models = {model.alias: await asyncio.to_thread(resolve_model, model) for model in settings.models}
        secret = await prepare(settings, models)
        for spec in worker_specs(settings, listener):
            supervisor.start(spec)
        if any(model.engine.kind != "url" for model in settings.models):
            supervisor.start(agent_spec(settings))
        if settings.aligner.enabled:
            supervisor.start(aligner_spec(settings))
        url = shown_url(settings, listener)
        with progress.status("starting the engine ..."):
            ready = await _until_ready(url, stopping)
        if ready:
            if not as_json:
                await asyncio.to_thread(_announce_parsers, settings, models)
            _announce(settings, url, secret, time.monotonic() - began, as_json)
            await stopping.wait()
    finally:
        if not as_json:
            console.print("draining ...")
        listener.close()  # first: nobody may connect to a socket that no worker accepts on any more
        await supervisor.stop()


def _signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _until_ready(url: str, stopping: asyncio.Event) -> bool:
    """Wait for every alias to be served; False if told to stop first. Raises `StartupFailed` after a long time."""
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while not stopping.is_set():
            try:
                async with session.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as response:
                    if response.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass  # the gateway itself is still starting
            if time.monotonic() > deadline:
                raise StartupFailed("No engine became ready. The logs folder of the data directory says why.")
            await asyncio.sleep(0.2)
    return False


def _announce_parsers(settings: Settings, models: dict[str, ResolvedModel]) -> None:
    """Say what vLLM reads tool calls and thoughts with, and why."""
    for model in settings.models:
        if model.engine.kind == "vllm":
            chosen = parsers_for(model.engine, Path(models[model.alias].folder))
            for what, choice in (("tool calls", chosen.tools), ("thoughts", chosen.reasoning)):
                console.print(f"{model.alias}: {what}: {choice.parser or 'off'} ({choice.reason})", markup=False)


def _announce(settings: Settings, url: str, secret: str | None, seconds: float, as_json: bool) -> None:
    aliases = [model.alias for model in settings.models]
    shown = next((model.alias for model in settings.models if model.task == "chat"), aliases[0])
    key = secret or ("EMPTY" if settings.server.auth == "off" else "YOUR_KEY")
    if as_json:
        print_json({"url": f"{url}/v1", "aliases": aliases, "key": secret, "ready_seconds": round(seconds, 1)})
        return
    console.print(f"\n[bold green]Alignway is ready[/] after {seconds:.0f} s: {url}/v1, model: {', '.join(aliases)}")
    if secret:
        console.print(f"\nFirst admin key, shown this once:  [bold]{secret}[/]")
    elif settings.server.auth == "on" and settings.admin_key is None:
        console.print("\nUse a key you have, or make one:  alignway keys create --name laptop")
    console.print("\n" + SNIPPET.format(url=url, key=key, alias=shown) + "\n\nCtrl-C drains and stops.", markup=False)
