"""The whole loop for real: vLLM on the CPU, PostgreSQL, the openai SDK, the real aligner. Nothing is faked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from alignment.base_models.bundled import bundled_model
from gateway.demo.host import hosted
from tests.cut_model import cut_model
from tests.stack import ADMIN_KEY

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LAYERS = 6
"""Of thirty: `make demo` plays the loop on the whole model."""
QUESTIONS = [
    "Why is the sky blue?",
    "Name a fruit that grows on trees.",
    "What does a librarian do?",
    "How do I boil an egg?",
]
TOPICS = [
    "rivers",
    "bread",
    "maps",
    "clocks",
    "bees",
    "snow",
    "trains",
    "paper",
    "glass",
    "salt",
    "wool",
    "tea",
    "iron",
]
OPTIONS = {"max_steps": 12, "pairs_per_step": 4, "learning_rate": 0.0005, "max_length_tokens": 256, "seed": 7}


class Loop:
    """A client of a running Alignway."""

    def __init__(self, url: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=url, api_key=ADMIN_KEY, max_retries=0, timeout=300)
        self._admin = url.removesuffix("/v1") + "/admin/v1"

    async def post(self, path: str, body: Any) -> Any:
        return await self.client.post(self._admin + path, body=body, cast_to=object)

    async def get(self, path: str) -> Any:
        return await self.client.get(self._admin + path, cast_to=object)

    async def greedy(self, model: str = "assistant") -> list[tuple[str, str | None]]:
        """Answer and release id to each question, one at a time: batches of other sizes round differently."""
        answers = []
        for question in QUESTIONS:
            reply = await self.client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=16
            )
            answers.append((reply.choices[0].message.content or "", reply.system_fingerprint))
        return answers

    async def wait(self, path: str, key: str, ends: tuple[str, ...], seconds: float) -> Any:
        async with asyncio.timeout(seconds):
            while (found := await self.get(path))[key] not in ends:
                await asyncio.sleep(0.3)
        return found

    async def teach(self) -> None:
        """Pairs whose chosen side speaks plainly and whose rejected side is the same words in disorder."""
        pairs = []
        for topic in TOPICS:
            for ask in ("Tell me about", "Explain", "Say something about"):
                good = f"Certainly. In short, {topic} are part of daily life, and people make good use of them."
                pairs.append(
                    {
                        "input": {"messages": [{"role": "user", "content": f"{ask} {topic}."}]},
                        "preferred_output": [{"role": "assistant", "content": good}],
                        "non_preferred_output": [{"role": "assistant", "content": " ".join(sorted(good.split()))}],
                    }
                )
        body = {"type": "pair", "source": "test", "licence": "internal", "pairs": pairs}
        await self.client.post("/feedback", body=body, cast_to=object)

    async def vote(self) -> None:
        """A preference between two choices that the model itself wrote."""
        reply = await self.client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Say hello."}], n=2, max_tokens=24, seed=3
        )
        sides = [{"completion_id": reply.id, "index": index} for index in (0, 1)]
        body = {"type": "preference", "verdict": "prefer", "chosen": sides[0], "rejected": sides[1:]}
        vote: Any = await self.client.post("/feedback", body=body, cast_to=object)
        assert vote["target"]["release_ids"] == [reply.system_fingerprint] * 2


@pytest.fixture
async def loop(tmp_path: Path, postgres_url: str) -> AsyncIterator[Loop]:
    environment = {"ALIGNWAY_ADMIN_KEY": ADMIN_KEY, "ALIGNWAY_DATABASE__URL": postgres_url}
    # Twelve steps on one sentence go far from the base, as the gates would say: this is about what comes after them.
    environment["ALIGNWAY_GATES__OFF"] = '["artefact", "drift"]'
    model = cut_model(bundled_model(), tmp_path / "model", LAYERS)
    manager = hosted(tmp_path, "--model", str(model), environment=environment)
    try:
        found = await asyncio.to_thread(manager.__enter__)
    except BaseException:
        print((tmp_path / "up.log").read_text()[-3000:])
        raise
    try:
        yield Loop(found["url"])
    finally:
        for log in sorted((tmp_path / "logs").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-1500:]}")
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def test_votes_become_a_release_that_serves_and_rolls_back(loop: Loop) -> None:
    base = await loop.greedy()
    await loop.teach()
    await loop.vote()
    run = await loop.post("/retrain", {"alias": "assistant", "options": OPTIONS})
    ended = await loop.wait(f"/runs/{run['id']}", "status", ("succeeded", "failed", "cancelled"), 400)
    assert ended["status"] == "succeeded", ended["error"]
    release = await loop.get(f"/releases/{ended['release_id']}")
    assert release["state"] == "published", release["gates"]

    body = {"release": release["id"], "strategy": "canary", "canary_share": 0.01, "reason": "test"}
    rollout = await loop.post("/aliases/assistant/promote", body)
    await _until_held(loop, release["id"])
    by_adapter = await loop.greedy(release["name"])
    await loop.post("/aliases/assistant/promote", {"release": release["id"], "reason": "test"})
    assert (await loop.wait(f"/rollouts/{rollout['id']}", "state", ENDED, 120))["state"] == "promoted"
    by_merged = await loop.greedy()
    assert {fingerprint for _, fingerprint in by_adapter + by_merged} == {release["id"]}
    assert [text for text, _ in by_merged] == [text for text, _ in by_adapter]
    assert [text for text, _ in by_merged] != [text for text, _ in base]

    back = await loop.post("/aliases/assistant/rollback", {"reason": "test"})
    assert (await loop.wait(f"/rollouts/{back['id']}", "state", ENDED, 120))["state"] == "promoted"
    assert await loop.greedy() == base


ENDED = ("promoted", "rolled_back", "stopped")


async def _until_held(loop: Loop, release_id: str) -> None:
    async with asyncio.timeout(60):
        while not any(release_id in replica["adapters"] for replica in (await loop.get("/replicas"))["data"]):
            await asyncio.sleep(0.2)
