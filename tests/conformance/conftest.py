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
[models.engine]
max_adapter_rank = 0
args = ["--max-model-len", "1024", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]

[[models]]
alias = "{alias}"
task = "embed"
engine = {{ kind = "url", url = "{url}", model = "tiny" }}
"""


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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway; one that runs already if the environment says where."""
    if URL in os.environ:
        yield Served(os.environ[URL], os.environ[KEY], os.environ[MODEL])
        return
    folder = tmp_path_factory.mktemp("conformance")
    config = folder / "alignway.toml"
    with embedding_server() as embedder:
        config.write_text(SETTINGS.format(alias=EMBEDDER, url=embedder))
        with hosted(folder, "--config", str(config), environment={"ALIGNWAY_ADMIN_KEY": ADMIN_KEY}) as found:
            yield Served(found["url"], ADMIN_KEY, found["aliases"][0])
