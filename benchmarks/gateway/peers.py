"""The gateways of `peers.toml`: what they are, how they are installed into a folder of their own, how they start."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.gateway.load import Endpoint
from benchmarks.gateway.place import Place, Started
from benchmarks.gateway.processes import free_port, pinned

FILE = Path(__file__).with_name("peers.toml")


@dataclass(frozen=True)
class Peer:
    """One entry of `peers.toml`."""

    name: str
    command: list[str]
    program: str = ""
    pip: list[str] = field(default_factory=list)
    npm: dict[str, Any] = field(default_factory=dict)
    apt: str = ""
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    api_key: str = ""
    ready_seconds: float = 60.0
    is_router: bool = False
    is_optional: bool = False
    note: str = ""

    def home(self, folder: Path) -> Path:
        """Its own folder."""
        return folder / self.name

    def find_program(self, folder: Path) -> str:
        """What to start: the program on the PATH, or the one unpacked here; empty if there is neither."""
        unpacked = self.home(folder) / "usr/sbin" / self.program
        return shutil.which(self.program) or (str(unpacked) if unpacked.is_file() else "")

    def is_installed(self, folder: Path) -> bool:
        """Whether it can be started."""
        if self.program:
            return bool(self.find_program(folder))
        return (self.home(folder) / "installed.json").is_file()

    def version(self, folder: Path) -> str:
        """What is installed."""
        if self.program:
            said = subprocess.run([self.find_program(folder), "-v"], capture_output=True, text=True, check=False)
            return (said.stdout + said.stderr).strip().rpartition("/")[2]
        wanted = json.loads((self.home(folder) / "installed.json").read_text())
        return ", ".join(name.rpartition("==")[2] for name in wanted)


def load_peers(file: Path = FILE) -> list[Peer]:
    """All entries, in their order."""
    return [Peer(**entry) for entry in tomllib.loads(file.read_text())["peer"]]


def install(peer: Peer, folder: Path) -> str:
    """Install what is missing; returns why it could not be, or nothing."""
    if peer.is_installed(folder):
        return ""
    home = peer.home(folder)
    home.mkdir(parents=True, exist_ok=True)
    try:
        if peer.pip:
            _run([sys.executable, "-m", "venv", str(home / "venv")], home)
            _run([str(home / "venv/bin/python"), "-m", "pip", "install", "--quiet", *peer.pip], home)
        if peer.npm:
            (home / "package.json").write_text(json.dumps(peer.npm))
            _run(["npm", "install", "--no-audit", "--no-fund"], home)
        if peer.apt:
            _run(["apt-get", "download", peer.apt], home)
            for package in home.glob("*.deb"):
                _run(["dpkg", "-x", str(package), "."], home)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{error} (see {home / 'install.log'})"
    wanted = peer.pip + [f"{name}=={version}" for name, version in peer.npm.get("dependencies", {}).items()]
    (home / "installed.json").write_text(json.dumps(wanted))
    return "" if peer.is_installed(folder) else f"{peer.program} is not in the package"


@contextlib.contextmanager
def start_peer(peer: Peer, place: Place, upstream: str, model: str) -> Iterator[Started]:
    """Start the gateway in front of `upstream`, on its core; it is ended with the block."""
    home, port = peer.home(place.folder), free_port()
    values = {
        "home": str(home),
        "program": peer.find_program(place.folder) if peer.program else "",
        "port": str(port),
        "metrics_port": str(free_port()),
        "upstream": upstream,
        "upstream_address": urlsplit(upstream).netloc,
        "model": model,
    }
    for name, text in peer.files.items():
        (home / name).write_text(fill(text, values))
    command = [fill(part, values) for part in peer.command]
    environment = {**os.environ, **{name: fill(value, values) for name, value in peer.environment.items()}}
    headers = {name: fill(value, values) for name, value in peer.headers.items()}
    if peer.api_key:
        headers["authorization"] = f"Bearer {peer.api_key}"
    endpoint = Endpoint("127.0.0.1", port, model, headers)
    with pinned(command, place.cores.gateway, place.log(peer.name), environment, home) as process:
        yield Started(endpoint, process)


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every `{name}` replaced; other braces stay as they are."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _run(command: list[str], home: Path) -> None:
    with (home / "install.log").open("ab") as log:
        subprocess.run(command, cwd=home, stdout=log, stderr=log, check=True)
