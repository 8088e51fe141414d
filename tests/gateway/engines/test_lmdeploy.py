"""The LMDeploy adapter against LMDeploy's real API server, over engines that need no GPU."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.lmdeploy import LmdeployControl, LmdeployLauncher, sampling_defaults
from gateway.errors import SwapFailed, UpstreamError
from gateway.settings import EngineSettings
from tests.gateway.engines.lmdeploy_servers import (
    Folders,
    Server,
    Servers,
    free_port,
    start,
    wait_until_up,
    write_model,
    write_python,
)

CHAT = "/v1/chat/completions"
ASK = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 5,
    "temperature": 0,
    "model": WEIGHTS_NAME,
}

pytestmark = pytest.mark.lmdeploy


Controls = dict[str, LmdeployControl]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two models that differ in every weight."""
    folder = tmp_path_factory.mktemp("models")
    return {"rel_first": write_model(folder / "first", 1), "rel_second": write_model(folder / "second", 2)}


@pytest.fixture(scope="module")
def python_with_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose `-m lmdeploy` is the stub server."""
    return write_python(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def servers(models: Folders, python_with_stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One server over each engine; both serve the first model."""
    logs = tmp_path_factory.mktemp("logs")
    started = {}
    try:
        for engine in ("echo", "transformers"):
            started[engine] = start(engine, python_with_stub, models["rel_first"], logs / f"{engine}.log")
        for server in started.values():
            wait_until_up(server)
        yield started
    finally:
        for server in started.values():
            server.process.terminate()
            server.process.wait(30)


@pytest.fixture
async def controls(servers: Servers) -> AsyncIterator[Controls]:
    """A control object for each server."""
    made = {engine: LmdeployControl(server.url, server.settings) for engine, server in servers.items()}
    yield made
    for control in made.values():
        await control.close()


async def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(server.url + path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def write(server: Server) -> str:
    """What the model writes."""
    status, reply = await post(server, CHAT, ASK | {"max_tokens": 12, "ignore_eos": True})
    assert status == 200, reply
    return str(reply["choices"][0]["message"]["content"])


def test_launch_stays_on_loopback_and_lets_arguments_win() -> None:
    settings = EngineSettings(kind="lmdeploy", python=Path("/env/bin/python"), args=("--tp", "2", "--server-port", "9"))
    launch = LmdeployLauncher().launch(settings, Path("/models/base"), 23333, "4,5")
    assert launch.command[:6] == ("/env/bin/python", "-m", "lmdeploy", "serve", "api_server", "/models/base")
    options = dict(zip(launch.command[6::2], launch.command[7::2], strict=True))  # the last of a name counts
    assert options == {
        "--backend": "pytorch",
        "--server-name": "127.0.0.1",
        "--server-port": "9",
        "--model-name": "weights",
        "--allow-origins": "http://127.0.0.1:23333",
        "--distributed-executor-backend": "ray",
        "--logprobs-mode": "raw_logprobs",
        "--generation-config": str(sampling_defaults(Path("/models/base"))),
        "--tp": "2",
    }
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "4,5"


def test_sampling_defaults_are_the_models_own_completed_by_openais(tmp_path: Path) -> None:
    assert json.loads((sampling_defaults(tmp_path) / "generation_config.json").read_bytes()) == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
    }
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6, "top_k": null, "eos_token_id": 2}')
    assert json.loads((sampling_defaults(tmp_path) / "generation_config.json").read_bytes()) == {
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": 0,
        "eos_token_id": 2,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["generation_config.json"]


async def test_ascend_starts_without_what_cuda_needs_and_is_never_exchanged_in_place() -> None:
    settings = EngineSettings(kind="lmdeploy", args=("--device=ascend",))
    launch = LmdeployLauncher().launch(settings, Path("/models/base"), 23333, "1")
    assert "--distributed-executor-backend" not in launch.command
    assert launch.environment["ASCEND_RT_VISIBLE_DEVICES"] == "1"
    with pytest.raises(SwapFailed, match="restart the engine on the release"):
        await LmdeployControl("http://127.0.0.1:9", settings).replace_weights("rel_second", Path("/nowhere"))


async def test_adapters_are_refused() -> None:
    control = LmdeployControl("http://127.0.0.1:9", EngineSettings(kind="lmdeploy"))
    assert control.max_adapter_rank == 0
    with pytest.raises(UpstreamError, match="at start only"):
        await control.load_adapter("rel_first", Path("/nowhere"))
    with pytest.raises(UpstreamError, match="at start only"):
        await control.unload_adapter("rel_first")


async def test_chat_comes_whole(servers: Servers) -> None:
    status, reply = await post(servers["echo"], CHAT, ASK)
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "Hello"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5


async def test_chat_comes_in_chunks(servers: Servers) -> None:
    url, body = servers["echo"].url + CHAT, ASK | {"stream": True}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        events = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello"
    assert choices[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("change", "status", "kind", "part"),
    [
        ({"model": "nobody"}, 404, "not_found_error", "nobody"),
        ({"max_tokens": "many"}, 400, "invalid_request_error", "max_tokens"),
        ({"messages": [{"role": "user", "content": "a" * 300}]}, 400, "invalid_request_error", ""),
    ],
)
async def test_errors_are_flat(servers: Servers, change: dict[str, Any], status: int, kind: str, part: str) -> None:
    answered, error = await post(servers["echo"], CHAT, ASK | change)
    assert (answered, error["type"], error["code"], error["object"]) == (status, kind, status, "error")
    assert part in error["message"]
    assert error.keys() == {"message", "type", "code", "param", "object"}


async def test_probe_passes_on_a_token_and_fails_on_an_unknown_name(controls: Controls) -> None:
    await controls["echo"].probe(WEIGHTS_NAME)
    with pytest.raises(UpstreamError, match="404"):
        await controls["echo"].probe("nobody")


async def test_a_server_without_metrics_does_not_tell_of_its_work(controls: Controls) -> None:
    assert await controls["transformers"].work_done() == ""  # the stub under it counts nothing


async def test_replaced_weights_write_as_their_folder(servers: Servers, controls: Controls, models: Folders) -> None:
    server, control = servers["transformers"], controls["transformers"]
    first = await write(server)
    await control.replace_weights("rel_second", models["rel_second"])
    assert await control.held_weights() == "rel_second"
    assert await write(server) != first
    # The stub zeroes every weight when it sleeps: one that did not arrive would show.
    await control.replace_weights("rel_first", models["rel_first"])
    assert await write(server) == first


async def test_torn_folder_leaves_the_engine_serving(servers: Servers, controls: Controls, tmp_path: Path) -> None:
    before = await write(servers["transformers"])
    await controls["transformers"].mark_weights("rel_first")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UpstreamError, match="cannot be sent"):
        await controls["transformers"].replace_weights("rel_torn", tmp_path)
    assert await controls["transformers"].held_weights() == "rel_first"
    assert await write(servers["transformers"]) == before


async def test_refused_update_is_a_swap_that_failed(servers: Servers, controls: Controls, models: Folders) -> None:
    server = servers["echo"]
    await controls["echo"].mark_weights("rel_first")
    try:
        with pytest.raises(SwapFailed, match=r"rel_second.* answered 500"):
            await controls["echo"].replace_weights("rel_second", models["rel_second"])
        assert await controls["echo"].held_weights() is None
        status, error = await post(server, "/v1/completions", {"model": WEIGHTS_NAME, "prompt": "a", "max_tokens": 1})
        assert (status, error["type"]) == (503, "server_error")
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health") as response:
            assert response.status == 200  # hence the probe
    finally:
        await post(server, "/wakeup", {})


async def test_dead_engine_is_a_failed_swap(models: Folders, python_with_stub: Path) -> None:
    settings = EngineSettings(kind="lmdeploy", python=python_with_stub)
    control = LmdeployControl(f"http://127.0.0.1:{free_port()}", settings)
    with pytest.raises(SwapFailed, match="cannot be reached"):
        await control.replace_weights("rel_second", models["rel_second"])
    await control.close()
