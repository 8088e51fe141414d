"""What `up`, `gateway` and `engine` have in common: sockets, models, records, children."""

import asyncio
import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gateway.agent.settings import agent_settings
from gateway.bootstrap import ResolvedModel, ensure_alias, ensure_first_key, ensure_replicas
from gateway.contracts.release import BaseModelRef
from gateway.engines.address import dialect_among
from gateway.errors import StartupFailed
from gateway.settings import DEFAULT_MODEL, ModelSettings, Settings
from gateway.storage.database import Database
from gateway.storage.migrate import migrate
from gateway.supervisor import ChildSpec, python_module

BACKLOG = 4096
WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "PYTHONNODEBUGRANGES": "1"}
"""Some megabytes less for each worker: threads that only wait for the database need no heaps of their own, and a line
without its columns is enough in a log."""

Listed = dict[str, str | None]
"""The models that a server lists, and who it says owns them."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A listening socket that children inherit. Raises `StartupFailed` if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupFailed(
            f"{host}:{port} cannot be listened on ({error.strerror}). If another program has the port, stop it or use "
            "--port.",
            code="port_in_use",
        ) from error
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


@contextmanager
def only_one(data_dir: Path, name: str) -> Iterator[None]:
    """Hold a data directory for one process. Raises `StartupFailed` if another one has it."""
    path = data_dir / f"{name}.lock"
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupFailed(
                f"`alignway {name}` is already running on {data_dir}. Stop it, or use another --data-dir.",
                code="already_running",
            ) from error
        file.write(str(os.getpid()))
        file.flush()
        yield


def resolve_model(model: ModelSettings) -> ResolvedModel:
    """Find the model on this machine, fetching or converting it if need be (`alignway models path`).

    In a process of its own: it takes transformers, which serving never loads. The model of an engine that somebody
    else runs is looked for here only if it was named. Raises `StartupFailed`.
    """
    if model.engine.addresses:
        return _resolve_foreign(model, model.engine.addresses)
    return _resolve_here(model)


def _resolve_foreign(model: ModelSettings, urls: tuple[str, ...]) -> ResolvedModel:
    """What somebody else's engines serve; its weights are known only if `model` names them.

    One of several that is down now is taken to serve what the others do.
    """
    answers = {url: listed for url in urls if (listed := _listed_if_up(url))}
    if not answers and model.engine.model is None:
        answers = {urls[0]: _listed_models(urls[0])}  # says what is wrong
    name = model.engine.model or _common_model(answers)
    signed = [kind for listed in answers.values() if (kind := dialect_among(listed.values()))]
    kind = model.engine.dialect or (signed[0] if signed else None)
    if model.model != DEFAULT_MODEL:
        return replace(_resolve_here(model), weights_name=name, engine_kind=kind)
    reference = BaseModelRef(model=name, revision="unknown", weights_sha256=hashlib.sha256(name.encode()).hexdigest())
    return ResolvedModel("", reference.model_dump(), name, kind)


def _listed_models(url: str) -> Listed:
    """What an OpenAI-compatible server lists. Raises `StartupFailed` if it does not answer as one."""
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as response:
            return {str(model["id"]): model.get("owned_by") for model in json.load(response)["data"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartupFailed(
            f"{url}/v1/models does not answer as an OpenAI-compatible server ({error}). Is the engine up?",
            code="engine_unreachable",
        ) from error


def _listed_if_up(url: str) -> Listed:
    try:
        return _listed_models(url)
    except StartupFailed:
        return {}


def _common_model(answers: dict[str, Listed]) -> str:
    names = {url: only_model(url, listed) for url, listed in answers.items()}
    if len(set(names.values())) != 1:
        raise StartupFailed(
            f"The engines of one alias must serve the same model, but these differ: {names}. Make each an entry of "
            "its own under [[models]].",
            code="model_missing",
        )
    return next(iter(names.values()))


def only_model(url: str, listed: Listed) -> str:
    """The one model a server lists. Raises `StartupFailed` if it lists none or several."""
    names = list(listed)
    if len(names) != 1:
        raise StartupFailed(f"{url} serves {names}; say which with engine.model.", code="model_missing")
    return names[0]


def _resolve_here(model: ModelSettings) -> ResolvedModel:
    command = python_module("gateway", "models", "path", model.model, "--hub", model.hub, "--json")
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StartupFailed("\n".join(said[-3:]) or f"{model.model} could not be made ready", code="model_missing")
    found = json.loads(done.stdout)
    return ResolvedModel(found["folder"], found["base"])


async def prepare_records(settings: Settings) -> str | None:
    """Bring the database up to date; the first key's secret if it was minted just now."""
    database = Database(settings.database_url)
    try:
        await migrate(database)
        async with database.write() as session:
            return await ensure_first_key(session, settings)
    finally:
        await database.close()


async def prepare(settings: Settings, models: dict[str, ResolvedModel]) -> str | None:
    """As `prepare_records`, and make the alias and the replicas of every model."""
    secret = await prepare_records(settings)
    database = Database(settings.database_url)
    try:
        for model in settings.models:
            async with database.write() as session:
                alias = await ensure_alias(session, model, models[model.alias])
                await ensure_replicas(session, model, alias, models[model.alias])
    finally:
        await database.close()
    return secret


def worker_specs(settings: Settings, listener: socket.socket) -> list[ChildSpec]:
    """The gateway workers, all on one socket."""
    return [
        ChildSpec(
            name=f"gateway-{number + 1}",
            command=python_module("gateway.worker", str(listener.fileno())),
            environment=WORKER_ENVIRONMENT,
            first_line=settings.model_dump_json().encode(),
            pass_fds=(listener.fileno(),),
            log_file=settings.data_dir.resolve() / "logs" / f"gateway-{number + 1}.log",
            stop_seconds=settings.server.drain_seconds + 5,
        )
        for number in range(settings.server.workers)
    ]


def shown_url(settings: Settings, listener: socket.socket) -> str:
    """The address to type: a wildcard or loopback address is shown as `localhost`."""
    host = settings.server.host
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def agent_spec(settings: Settings) -> ChildSpec:
    """The engine agent of this machine."""
    return ChildSpec(
        name="engine-agent",
        command=python_module("gateway.agent", "--lifeline", "--settings", "-"),
        first_line=agent_settings(settings).model_dump_json().encode(),
        log_file=settings.data_dir.resolve() / "logs" / "engine-agent.log",
        stop_seconds=45.0,
        stop_order=1,
    )


def aligner_spec(settings: Settings) -> ChildSpec:
    """The aligner: trains when a run is queued."""
    return ChildSpec(
        name="aligner",
        command=python_module(
            "alignment",
            *("--store", str(settings.store_path)),
            *("--datasets", settings.datasets.model_dump_json(exclude_defaults=True)),
            *(("--store-url", settings.store.url) if settings.store.url else ()),
            *(("--store-endpoint-url", settings.store.endpoint_url) if settings.store.endpoint_url else ()),
            *("--releases", settings.releases.model_dump_json(exclude_defaults=True)),
            *("--aligner", settings.aligner.model_dump_json(exclude_defaults=True)),
            *("--gates", settings.gates.model_dump_json(exclude_defaults=True)),
            *("--judge", settings.judge.model_dump_json(exclude_defaults=True)),
            *("--annotation", settings.annotation.model_dump_json(exclude_defaults=True)),
            *("--privacy", settings.privacy.model_dump_json(exclude_defaults=True)),
            "--lifeline",
        ),
        # Threads that spin while they wait would take the cores from an engine beside them.
        environment={"ALIGNWAY_DATABASE_URL": settings.database_url, "OMP_WAIT_POLICY": "PASSIVE"}
        | ({"OMP_NUM_THREADS": str(settings.aligner.threads)} if settings.aligner.threads else {}),
        log_file=settings.data_dir.resolve() / "logs" / "aligner.log",
        stop_seconds=20.0,
        stop_order=1,
    )


def run_async(main: object) -> None:
    """Run a coroutine under uvloop where there is one."""
    if sys.platform == "win32":
        asyncio.run(main)  # type: ignore[arg-type]
        return
    import uvloop

    uvloop.run(main)  # type: ignore[arg-type]
