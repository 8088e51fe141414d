"""One Alignway over a real vLLM for all clients here: `alignway up`, as anybody starts it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.host import hosted
from gateway.settings import DEFAULT_MODEL
from gateway.supervisor import python_module
from tests.conformance.embedder import EMBEDDER, embedding_server

ROOT = Path(__file__).parent.parent.parent
URL, KEY, MODEL = "ALIGNWAY_CONFORMANCE_URL", "ALIGNWAY_CONFORMANCE_KEY", "ALIGNWAY_CONFORMANCE_MODEL"
ADMIN_KEY = "conformance-admin-key-0123456789"
CLIENTS = ROOT / ".venv-clients"
CLIENT_SECONDS = 180
SETTINGS = """
[aligner]
enabled = false

[[models]]
model = "{model}"
[models.engine]
max_adapter_rank = 0
args = ["--max-model-len", "1024"]

[[models]]
alias = "{alias}"
task = "embed"
engine = {{ kind = "url", url = "{url}", model = "tiny" }}
"""

TEMPLATE_WITH_TOOLS = """{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for made in message.tool_calls or [] %}<tool_call>
{"name": "{{ made.function.name }}", "arguments": {{ made.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% if loop.last and tools %}<|im_start|>system
{% for tool in tools %}{{ tool.function.name }} {% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""The small model's own template shows it no tools, and so gets no parser; with this one Alignway chooses `hermes`."""


@dataclass(frozen=True)
class Served:
    """Where the gateway is, and what opens it."""

    url: str
    """Ends with `/v1`."""
    key: str
    model: str

    @property
    def environment(self) -> dict[str, str]:
        """For a client in a process of its own."""
        return {**os.environ, URL: self.url, KEY: self.key, MODEL: self.model}


@dataclass(frozen=True)
class Observed:
    """What each named call of a client's script gave: see `clients/`."""

    found: dict[str, Any]

    def value(self, name: str) -> Any:
        """What a call gave."""
        assert "error" not in self.found[name], self.found[name]["error"]
        return self.found[name]["value"]

    def error(self, name: str) -> dict[str, Any]:
        """The error that a call ended with."""
        assert "error" in self.found[name], self.found[name]
        error: dict[str, Any] = self.found[name]["error"]
        return error


def python_of(client: str) -> str:
    """The Python of a client's environment; the test is skipped without it."""
    python = CLIENTS / client / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there; `make clients-env` makes it")
    return str(python)


def node_and_packages() -> tuple[str, str]:
    """Node and the folder with openai-node; the test is skipped without them."""
    node, packages = shutil.which("node"), CLIENTS / "node"
    if node is None:
        pytest.skip("there is no node on this machine")
    if not (packages / "node_modules").exists():
        pytest.skip(f"{packages / 'node_modules'} is not there; with npm, `make clients-env` makes it")
    return node, str(packages)


def observe(served: Served, *command: str) -> Observed:
    """Run a client's script."""
    # litellm would ask the internet for prices.
    environment = {**served.environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)
    # Some clients talk on standard output; the observations come last.
    return Observed(json.loads(done.stdout.splitlines()[-1]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine counts towards the time of the first test that needs it."""
    for item in items:
        if "served" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.timeout(600))


def model_with_tools(folder: Path) -> Path:
    """The small model of the demo, with a chat template that shows tools."""
    command = python_module("gateway", "models", "path", DEFAULT_MODEL, "--json")
    found = subprocess.run(command, capture_output=True, check=True)
    folder.mkdir()
    for file in Path(json.loads(found.stdout)["folder"]).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(TEMPLATE_WITH_TOOLS)
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway; one that runs already if the environment says where."""
    if URL in os.environ:
        yield Served(os.environ[URL], os.environ[KEY], os.environ[MODEL])
        return
    folder = tmp_path_factory.mktemp("conformance")
    config = folder / "alignway.toml"
    with embedding_server() as embedder:
        model = model_with_tools(folder / "model")
        config.write_text(SETTINGS.format(model=model, alias=EMBEDDER, url=embedder))
        with hosted(folder, "--config", str(config), environment={"ALIGNWAY_ADMIN_KEY": ADMIN_KEY}) as found:
            yield Served(found["url"], ADMIN_KEY, found["aliases"][0])
