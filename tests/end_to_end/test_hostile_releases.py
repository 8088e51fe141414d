"""Damaged and hostile releases are promoted under streams: each is refused with its reason, and nobody notices."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.contracts.seal import SEAL_FILE, write_seal
from gateway.storage.tables import ReleaseRow
from tests.adapters import write_base
from tests.gateway.agent.hostile import HARM, WEIGHTS
from tests.stack import RANK, Stack, running, stack_settings

STREAMS = 6
SEALED = (
    "pickle",
    "remote code",
    "zip bomb",
    "chat template swapped",
    "config no JSON",
    "other rank",
    "infinite scaling",
    "cut off",
    "oversized header",
    "offsets beyond the file",
    "NaN, bfloat16",
    "whole numbers",
    "no B",
    "too wide for its base",
    "module the base lacks",
    "link out of the folder",
)
"""Harm done before the seal: the checksums are right, the adapter is not."""


def other_base(folder: Path) -> None:
    manifest = json.loads((folder / "release.json").read_text())
    manifest["base"]["weights_sha256"] = "f" * 64
    (folder / "release.json").write_text(json.dumps(manifest))
    write_seal(folder, folder.name)


def changed_bytes(folder: Path) -> None:
    weights = folder / "adapter" / WEIGHTS
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))


AFTER_THE_SEAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "checksum": (changed_bytes, "differs from what was sealed"),
    "unsealed": (lambda folder: (folder / SEAL_FILE).unlink(), "no readable SEAL.json"),
    "stranger": (lambda folder: (folder / "adapter" / "notes.md").write_text("x"), "files that were not sealed"),
    "another base": (other_base, "trained on weights ffff"),
    "gone": (shutil.rmtree, "no readable SEAL.json"),
}


@dataclass
class Traffic:
    """Streams that never cease, and what became of each."""

    stack: Stack
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answers: int = 0
    writers: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    async def lane(self) -> None:
        while not self.over.is_set():
            try:
                await self._one()
            except Exception as error:
                self.failures.append(repr(error))

    async def _one(self) -> None:
        asked = [{"role": "user", "content": "[words:30] hello"}]
        stream = await self.stack.client.chat.completions.create(model="assistant", messages=asked, stream=True)
        finish = None
        async for chunk in stream:
            self.writers.add(str(chunk.system_fingerprint))
            if chunk.choices:
                finish = chunk.choices[0].finish_reason or finish
        self.answers += 1
        if finish not in ("stop", "length"):
            self.failures.append(f"a stream ended with {finish}")


async def spoilt(stack: Stack, kind: str) -> tuple[ReleaseRow, str]:
    """A release with one thing wrong, and what must be said of it."""
    row = await stack.make_release("EVIL")
    folder = stack.settings.store_path / row.location
    if kind in HARM:
        harm, said = HARM[kind]
        harm(folder / "adapter", RANK)
        write_seal(folder, row.id)
        return row, said
    damage, said = AFTER_THE_SEAL[kind]
    damage(folder)
    return row, said


async def test_every_kind_is_refused_with_its_reason_while_streams_run(tmp_path: Path) -> None:
    settings = stack_settings(tmp_path)
    write_base(tmp_path / "model")
    async with running(settings) as stack:
        _, before = await stack.call("GET", "/admin/v1/aliases/assistant")
        traffic = Traffic(stack)
        lanes = [asyncio.create_task(traffic.lane()) for _ in range(STREAMS)]
        kinds = (*SEALED, *AFTER_THE_SEAL)
        for kind in kinds:
            row, said = await spoilt(stack, kind)
            ended = await stack.ended((await stack.promote(row.id))["id"])
            assert (kind, ended["state"]) in ((kind, "rolled_back"), (kind, "stopped"))
            assert said in ended["detail"], kind
            _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
            assert alias["serving_release"] == before["serving_release"]
        answered = traffic.answers
        good = await stack.make_release("GOOD")
        assert (await stack.ended((await stack.promote(good.id))["id"]))["state"] == "promoted"
        traffic.over.set()
        await asyncio.gather(*lanes)
        assert traffic.failures == []
        assert answered >= 2 * len(kinds)
        assert traffic.writers <= {before["serving_release"], good.id}
        _, replicas = await stack.call("GET", "/admin/v1/replicas")
        assert [replica["restarts"] for replica in replicas["data"]] == [0]
