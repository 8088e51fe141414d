"""What an agent needs to know: where the records and releases are, and which engines it runs."""

from pathlib import Path

from gateway.settings import EngineSettings, ModelSettings, Section, Settings


class ReplicaSettings(Section):
    """One engine for an agent to run."""

    engine: EngineSettings
    devices: str | None = None
    """Devices of this engine, such as `0` or `2,3`; default: the engine chooses."""


class AgentSettings(Section):
    """One agent: the engines it runs, by replica id, and the folders around them."""

    database_url: str
    store: Path
    """Folder of the release store; with `store_url`, where releases are fetched to."""
    store_url: str | None = None
    store_endpoint_url: str | None = None
    keep: int = 5
    """With `store_url`: so many releases of an alias stay on this machine."""
    spare_bytes: int = 0
    """With `store_url`: nothing is fetched that would leave less than this free."""
    data_dir: Path
    """Logs go to `logs`, what the agent remembers of its engines to `engines`."""
    replicas: dict[str, ReplicaSettings]


def replica_id(alias: str, number: int) -> str:
    """`assistant-1`: the alias and the replica's number, from 1."""
    return f"{alias}-{number}"


def devices_of(model: ModelSettings, number: int) -> str | None:
    """The devices of one of a model's replicas, counted from 0: they are dealt out evenly. None: it chooses itself."""
    share = len(model.devices) // model.replicas
    return ",".join(model.devices[number * share : (number + 1) * share]) or None


def agent_settings(settings: Settings) -> AgentSettings:
    """The agent of one machine that runs every engine of `settings`; devices are dealt out evenly."""
    replicas = {}
    for model in settings.models:
        if model.engine.kind == "url":
            continue
        for number in range(model.replicas):
            chosen = devices_of(model, number)
            replicas[replica_id(model.alias, number + 1)] = ReplicaSettings(engine=model.engine, devices=chosen)
    return AgentSettings(
        database_url=settings.database_url,
        store=settings.store_path,
        store_url=settings.store.url,
        store_endpoint_url=settings.store.endpoint_url,
        keep=settings.releases.keep,
        spare_bytes=settings.releases.min_free_disk_mib << 20,
        data_dir=settings.data_dir.resolve(),
        replicas=replicas,
    )
