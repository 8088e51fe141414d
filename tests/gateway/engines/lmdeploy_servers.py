"""Models, and LMDeploy's real API server over them, for the tests here."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from gateway.engines.lmdeploy import LmdeployLauncher
from gateway.settings import EngineSettings

REPOSITORY = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("ALIGNWAY_LMDEPLOY_PYTHON", REPOSITORY / ".venv-lmdeploy/bin/python"))
STUB = Path(__file__).with_name("lmdeploy_stub_server.py")
START_SECONDS = 120.0
SPECIAL = ["<unk>", "<s>", "</s>"]
TOKENS = [*SPECIAL, *(chr(code) for code in range(0x21, 0x7F)), "Ġ"]
WIDTH = 32


@dataclass(frozen=True)
class Server:
    """A running API server."""

    url: str
    settings: EngineSettings
    process: "subprocess.Popen[bytes]"
    log: Path


Servers = dict[str, Server]
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


def write_python(folder: Path) -> Path:
    """A Python whose `-m lmdeploy` is the stub server, so that the launcher's command runs as it is."""
    if not PYTHON.exists():
        pytest.skip("no LMDeploy environment; make one with `make lmdeploy-env`")
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n[ "$2" = lmdeploy ] && shift 2 && exec {PYTHON} {STUB} "$@"\nexec {PYTHON} "$@"\n')
    script.chmod(0o755)
    return script


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def engine_counts(log: Path) -> tuple[int, int]:
    """From the server's log: how many requests its engine is at, and how many it left before their end."""
    said = [line.split() for line in log.read_text().splitlines() if line.startswith("stub: ")][-1]
    return int(said[1]), int(said[3])


def start(engine: str, python: Path, model: Path, log: Path, step_seconds: float = 0) -> Server:
    """Start the launcher's own command; `--max-batch-size` because LMDeploy would ask the GPU for it."""
    arguments = ("--max-batch-size", "4", "--session-len", "256")
    stub = {"STUB_ENGINE": engine, "OMP_NUM_THREADS": "1", "STUB_STEP_SECONDS": str(step_seconds)}
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
