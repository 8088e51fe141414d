"""What the scripted engine holds and says: markers, canned words, and the gate that `/pause` shuts. No HTTP here."""

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gateway.contracts.ids import WEIGHTS_NAME

MARKER_FILE = "marker.txt"
MARKER_EVERY_WORDS = 5
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty", "kelp", "larch")
DIRECTIVE = re.compile(r"\[(words|die|stall)(?::(\d+))?\]")
DEFAULT_VERSION = "default"


class Refusal(Exception):
    """What the engine answers instead of words."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


@dataclass
class Folder:
    """Weights or an adapter, as far as a scripted engine reads them."""

    path: Path
    marker: str

    @classmethod
    def read(cls, path: Path, needs: str) -> "Folder":
        """Raise `Refusal` unless `path` holds the file that a real engine would need."""
        if not (path / needs).is_file():
            raise Refusal(500, "InternalServerError", f"{path} holds no {needs}")
        marker = path / MARKER_FILE
        return cls(path, marker.read_text(encoding="utf-8").strip() if marker.is_file() else path.name)


@dataclass(frozen=True)
class Script:
    """One answer to come: how many words, from which seed, and which trouble."""

    seed: bytes
    length: int
    limit: int
    trouble: str | None

    @property
    def count(self) -> int:
        """Words that will be said."""
        return min(self.length, self.limit)

    @property
    def finish_reason(self) -> str:
        """`stop` if the answer ended by itself, `length` if it was cut."""
        return "stop" if self.length <= self.limit else "length"

    def word(self, index: int, marker: str) -> str:
        """The word at `index`, with the space before it."""
        said = marker if index % MARKER_EVERY_WORDS == 0 else WORDS[self.seed[index % len(self.seed)] % len(WORDS)]
        return said if index == 0 else " " + said


def write_script(prompt: str, limit: int | None, index: int) -> Script:
    """The answer number `index` to a prompt: equal for equal prompts, within `limit` words."""
    seed = hashlib.sha256(f"{index}\0{prompt}".encode()).digest()
    length, trouble = 8 + seed[0] % 16, None
    for name, number in DIRECTIVE.findall(prompt):
        if name == "words":
            length = int(number or length)
        else:
            trouble = name
    return Script(seed, length, length if limit is None else limit, trouble)


class ScriptedEngine:
    """What the server holds, and the gate that `/pause` shuts."""

    def __init__(self, weights: Folder, chunk_seconds: float) -> None:
        self.weights: Folder | None = weights
        self.chunk_seconds = chunk_seconds
        self.adapters: dict[str, Folder] = {}
        self.version = DEFAULT_VERSION
        self.in_flight = self.said = 0
        self.open, self.idle = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.idle.set()

    def writer(self, name: str) -> Folder:
        """Who answers under a model name, at this moment."""
        if name in self.adapters:
            return self.adapters[name]
        if name != WEIGHTS_NAME:
            raise Refusal(404, "NotFoundError", f"The model `{name}` does not exist.")
        if self.weights is None:
            raise Refusal(500, "InternalServerError", "the last weights did not load; restart the engine")
        return self.weights

    async def say(self, name: str, script: Script) -> AsyncIterator[str]:
        """The words of an answer, each after its delay; the marker is looked up anew for each of them."""
        writer = self.writer(name)
        for index in range(script.count):
            await asyncio.sleep(self.chunk_seconds)
            if script.trouble and index == 1:
                await _make(script.trouble)
            # Weights may be replaced under an open answer, its adapter may not: as with a real engine.
            self.said += 1
            yield script.word(index, (self.writer(name) if name == WEIGHTS_NAME else writer).marker)

    @contextlib.asynccontextmanager
    async def generating(self) -> AsyncIterator[None]:
        """Counts an answer as in flight; newcomers wait while the engine is paused."""
        while not self.open.is_set():
            await self.open.wait()
        self.in_flight += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()


async def _make(trouble: str) -> None:
    if trouble == "die":
        os._exit(1)
    await asyncio.Event().wait()
