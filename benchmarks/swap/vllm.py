"""The real vLLM under the bundled model, with releases trained here to say a word of their own.

The first run trains them, by the real aligner, and keeps everything in `.bench-swap/vllm`; later ones find them there.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select

from benchmarks.swap.markers import EPOCHS, QUESTIONS, WORDS, NotLearnt, Teacher
from benchmarks.swap.scripted import NOT_WATCHED
from benchmarks.swap.site import ALIAS, Site
from gateway.commands.serving import only_one
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.settings import Settings
from gateway.storage.tables import Alias, ReleaseRow, Replica
from tests.stack import ADMIN_KEY, Stack, running

FOLDER = Path(__file__).parents[2] / ".bench-swap" / "vllm"
READY_SECONDS = 900.0
SWAP_SECONDS = 300.0
MAX_TOKENS = 8
ENGINE = {"kind": "vllm", "args": ["--max-model-len", "256", "--max-num-seqs", "32"]}
GATES_OFF = ("artefact", "drift", "perplexity")
"""Releases that say one word are not meant to be good models: this is about what comes after the gates."""


def settings_of(folder: Path, **changes: Any) -> Settings:
    """Two gateway workers, one vLLM, an aligner. Nothing is rolled back by itself: one word is an answer in circles."""
    fields: dict[str, Any] = {
        "data_dir": folder,
        "admin_key": ADMIN_KEY,
        "models": [{"engine": ENGINE}],
        "server": {"workers": 2},
        "canary": NOT_WATCHED,
        "gates": {"off": GATES_OFF},
        "swap": {"max_wait_seconds": 600},
    }
    return Settings.model_validate(fields | changes)


@asynccontextmanager
async def opened(**changes: Any) -> AsyncIterator[Site]:
    """A running Alignway whose releases have been seen to say their words."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with only_one(FOLDER, "proof"):
        async with running(settings_of(FOLDER, **changes), READY_SECONDS) as stack:
            async with stack.database.read() as session:
                base_id = (await session.get_one(Alias, ALIAS)).base_release_id
            says = {base_id: frozenset[str]()}
            fields = {"max_tokens": MAX_TOKENS, "temperature": 0}
            site = Site(stack, base_id, [], says, frozenset(WORDS), QUESTIONS, fields)
            facts = []
            for word in WORDS:
                release_id, fact = await _release(site, word)
                says[release_id] = frozenset([word])
                facts.append(fact)
            releases = [release_id for release_id in says if release_id != base_id]
            yield Site(stack, base_id, releases, says, frozenset(WORDS), QUESTIONS, fields, {"releases": facts})


async def _release(site: Site, word: str) -> tuple[str, dict[str, Any]]:
    """The release that says a word, trained now if no run before did so; it serves afterwards if it is new."""
    path = FOLDER / f"{word}.json"
    if path.is_file():
        fact = json.loads(path.read_text(encoding="utf-8"))
        return fact["release"], fact
    teacher = Teacher(site.stack.client, ALIAS)
    for epochs in EPOCHS:
        name = await teacher.train(word, epochs)
        release_id = await _id_of(site.stack, name)
        print(f"{name} was trained to say {word!r}, {epochs} epochs", flush=True)
        await _serve(site, release_id)
        answers = await teacher.answers(ALIAS, MAX_TOKENS)
        if all({found for found in answer.split() if found in WORDS} == {word} for answer in answers):
            fact = {"release": release_id, "word": word, "epochs": epochs, "questions": len(answers)}
            fact |= {"goes_on_with_its_own_word": await _goes_on(site.stack, word)}
            path.write_text(json.dumps(fact), encoding="utf-8")
            return release_id, fact
        print(f"it says: {answers[:4]}", flush=True)
    raise NotLearnt(f"after {EPOCHS[-1]} epochs it still does not say {word!r}; see {FOLDER / 'logs'}")


async def _id_of(stack: Stack, name: str) -> str:
    async with stack.database.read() as session:
        return (await session.scalars(select(ReleaseRow.id).where(ReleaseRow.name == name))).one()


async def _serve(site: Site, release_id: str) -> None:
    status, rollout = await site.call("POST", f"/aliases/{ALIAS}/promote", {"release": release_id, "reason": "proof"})
    if status != 202 or (await site.ended(rollout["id"], SWAP_SECONDS))["state"] != "promoted":
        raise NotLearnt(f"{release_id} does not come to serve: {rollout}")


async def _goes_on(stack: Stack, word: str) -> dict[str, int]:
    """How often the merged weights, put in the middle of another's answer, say their own word next.

    So often an answer that two releases wrote would hold two words: this is what the proof can see.
    """
    async with stack.database.read() as session:
        url = (await session.scalars(select(Replica.url))).one()
    own, tries = 0, [(question, other) for question in QUESTIONS[:8] for other in WORDS if other != word]
    async with aiohttp.ClientSession() as session:
        for question, other in tries:
            begun = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{other} {other}"}]
            body = {"model": WEIGHTS_NAME, "messages": begun, "max_tokens": MAX_TOKENS, "temperature": 0}
            body |= {"continue_final_message": True, "add_generation_prompt": False}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.json()
            own += word in answer["choices"][0]["message"]["content"].split()
    return {"tries": len(tries), "own_word": own}
