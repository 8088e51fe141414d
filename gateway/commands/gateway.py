"""`alignway gateway`: the gateway workers alone, for hosts that run no engine."""

import asyncio
import signal
from typing import Annotated

import typer

from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.commands.serving import listening_socket, prepare_records, run_async, shown_url, worker_specs
from gateway.commands.workplace import make_data_dir
from gateway.logs import configure_logs
from gateway.settings import Settings
from gateway.supervisor import Supervisor


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: 1.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the OpenAI API over engines that agents elsewhere keep running."""
    flags = {"data_dir": data_dir, "server.host": host, "server.port": port, "server.workers": workers}
    settings = load_settings(config, flags)
    configure_logs()
    make_data_dir(settings)
    run_async(_serve(settings, as_json))


async def _serve(settings: Settings, as_json: bool) -> None:
    listener = listening_socket(settings.server.host, settings.server.port)
    if secret := await prepare_records(settings):
        console.print(f"First admin key, shown this once:  {secret}", markup=False)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    supervisor = Supervisor()
    for spec in worker_specs(settings, listener):
        supervisor.start(spec)
    url = f"{shown_url(settings, listener)}/v1"
    if as_json:
        print_json({"url": url, "workers": settings.server.workers})
    else:
        console.print(f"Gateway at {url}, {settings.server.workers} workers. Ctrl-C drains and stops.")
    await stopping.wait()
    listener.close()
    await supervisor.stop()
