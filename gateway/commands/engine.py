"""`alignway engine`: the agent alone, for hosts that run engines and no gateway."""

import asyncio
from typing import Annotated

import typer

from gateway.agent.agent import run_agent
from gateway.agent.settings import agent_settings
from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, console
from gateway.commands.serving import prepare, resolve_model
from gateway.commands.workplace import make_data_dir
from gateway.errors import StartupFailed
from gateway.logs import configure_logs


def engine(
    replica: Annotated[
        list[str] | None, typer.Option(help="Run this replica only, such as assistant-1; repeatable. Default: all.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Keep the engines of this machine as the database says, until Ctrl-C."""
    settings = load_settings(config, {"data_dir": data_dir})
    agent = agent_settings(settings)
    if strangers := sorted(set(replica or ()) - agent.replicas.keys()):
        raise StartupFailed(f"no replica {', '.join(strangers)}; the settings have {', '.join(agent.replicas)}")
    if replica:
        agent = agent.model_copy(update={"replicas": {name: agent.replicas[name] for name in replica}})
    configure_logs()
    make_data_dir(settings)
    models = {model.alias: resolve_model(model) for model in settings.models}
    if secret := asyncio.run(prepare(settings, models)):
        console.print(f"First admin key, shown this once:  {secret}", markup=False)
    asyncio.run(run_agent(agent))
