"""Every snippet of docs/clients.md runs as it stands, but for the address and the key."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.conftest import ROOT, Served, node_and_packages, python_of

PAGE = (ROOT / "docs" / "clients.md").read_text()
ADDRESS, KEY, MODEL = "http://localhost:8080/v1", "sk-...", "assistant"
RUN = ("python", "js", "sh")
ENVIRONMENTS = {"LangChain": "langchain", "LiteLLM": "litellm"}


@dataclass(frozen=True)
class Snippet:
    """A fenced block, and the heading it stands under."""

    heading: str
    language: str
    code: str


def snippets() -> list[Snippet]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            found.append(Snippet(heading, language, code))
    return found


def command(snippet: Snippet, code: str, folder: Path) -> list[str]:
    """What runs a snippet."""
    if snippet.language == "sh":
        return ["sh", "-ec", code]
    if snippet.language == "js":
        node, packages = node_and_packages()
        (folder / "node_modules").symlink_to(Path(packages) / "node_modules")
        (folder / "snippet.mjs").write_text(code)
        return [node, str(folder / "snippet.mjs")]
    environment = ENVIRONMENTS.get(snippet.heading)
    return [sys.executable if environment is None else python_of(environment), "-c", code]


@pytest.mark.parametrize(
    "snippet", [each for each in snippets() if each.language in RUN], ids=lambda each: f"{each.heading}"
)
def test_a_snippet_runs_as_it_stands(served: Served, snippet: Snippet, tmp_path: Path) -> None:
    assert ADDRESS in snippet.code
    assert KEY in snippet.code
    assert served.model == MODEL
    code = snippet.code.replace(ADDRESS, served.url).replace(KEY, served.key)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = served.environment | {"PATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command(snippet, code, tmp_path), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


def test_every_client_has_a_snippet_that_is_run() -> None:
    run = {snippet.heading for snippet in snippets() if snippet.language in RUN}
    assert run == {"By environment", "openai, Python", "openai, Node", "LangChain", "LiteLLM", "curl"}


@pytest.mark.parametrize(
    ("client", "pinned_in"),
    [
        ("openai, Python", "constraints/main.txt"),
        ("openai, Python", "constraints/clients/openai-2.txt"),
        ("langchain-openai", "constraints/clients/langchain.txt"),
        ("litellm", "constraints/clients/litellm.txt"),
        ("openai, Node", "tests/conformance/clients/node/package.json"),
    ],
)
def test_the_page_names_the_versions_that_are_tested(client: str, pinned_in: str) -> None:
    package = client.partition(",")[0]
    pinned = re.search(rf'^\W*{package}"?(?:==|: ")([\d.]+)', (ROOT / pinned_in).read_text(), re.MULTILINE)
    assert pinned is not None
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {client} |"))
    assert pinned[1] in row
