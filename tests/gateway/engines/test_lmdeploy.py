"""The LMDeploy adapter against LMDeploy's real API server, over engines that need no GPU."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.lmdeploy import LmdeployControl, LmdeployLauncher
from gateway.errors import SwapFailed, UpstreamError
from gateway.settings import EngineSettings

REPOSITORY = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("ALIGNWAY_LMDEPLOY_PYTHON", REPOSITORY / ".venv-lmdeploy/bin/python"))
STUB = Path(__file__).with_name("lmdeploy_stub_server.py")
START_SECONDS = 120.0
CHAT = "/v1/chat/completions"
ASK = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 5,
    "temperature": 0,
    "model": WEIGHTS_NAME,
}
SPECIAL = ["<unk>", "<s>", "</s>"]
TOKENS = [*SPECIAL, *(chr(code) for code in range(0x21, 0x7F)), "Ġ"]
WIDTH = 32

pytestmark = pytest.mark.lmdeploy


@dataclass(frozen=True)
class Server:
    """A running API server."""

    url: str
    settings: EngineSettings
    process: "subprocess.Popen[bytes]"
    log: Path


Servers = dict[str, Server]
Controls = dict[str, LmdeployControl]
Folders = dict[str, Path]


def write_tokenizer(folder: Path) -> None:
    """One token for each printable ASCII character."""
    vocabulary = {token: number for number, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    configuration = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """A Llama of two layers. Large random values, so that two seeds never write the same."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("model.embed_tokens", "lm_head"), (len(TOKENS), WIDTH))
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {f"{layer}.self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj": (WIDTH, WIDTH) for name in ("gate", "up", "down")}
        shapes |= {f"{layer}.{name}_layernorm": (WIDTH,) for name in ("input", "post_attention")}
    shapes["model.norm"] = (WIDTH,)
    weights = {f"{name}.weight": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["lm_head.weight"][: len(SPECIAL)] = 0
    return weights


def write_model(folder: Path, seed: int) -> Path:
    """A whole model folder with weights of its own."""
    folder.mkdir()
    configuration = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2, "vocab_size": len(TOKENS)}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(configuration | sizes | heads))
    write_tokenizer(folder)
    save_file(random_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two models that differ in every weight."""
    folder = tmp_path_factory.mktemp("models")
    return {"rel_first": write_model(folder / "first", 1), "rel_second": write_model(folder / "second", 2)}


@pytest.fixture(scope="module")
def python_with_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose `-m lmdeploy` is the stub server, so that the launcher's command runs as it is."""
    if not PYTHON.exists():
        pytest.skip("no LMDeploy environment; make one with `make lmdeploy-env`")
    script = tmp_path_factory.mktemp("python") / "python"
    script.write_text(f'#!/bin/sh\n[ "$2" = lmdeploy ] && shift 2 && exec {PYTHON} {STUB} "$@"\nexec {PYTHON} "$@"\n')
    script.chmod(0o755)
    return script


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(engine: str, python: Path, model: Path, log: Path) -> Server:
    """Start the launcher's own command; `--max-batch-size` because LMDeploy would ask the GPU for it."""
    arguments = ("--max-batch-size", "4", "--session-len", "256")
    stub = {"STUB_ENGINE": engine, "OMP_NUM_THREADS": "1"}
    settings = EngineSettings(kind="lmdeploy", python=python, args=arguments, environment=stub)
    port = free_port()
    launch = LmdeployLauncher().launch(settings, model, port, None)
    with log.open("wb") as output:
        environment = os.environ | dict(launch.environment)
        process = subprocess.Popen(launch.command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    return Server(f"http://127.0.0.1:{port}", settings, process, log)


def wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{server.url}/v1/models", timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"the stub server did not start:\n{server.log.read_text()[-3000:]}")


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
        "--tp": "2",
    }
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "4,5"


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
