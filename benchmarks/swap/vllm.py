"""The real vLLM under the bundled model, with releases trained here to say a word of their own.

The first run trains them and keeps everything in `.bench-swap/vllm`; later ones find them there.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select

from benchmarks.swap.markers import ONE_THREAD, QUESTIONS, WORDS, NotLearnt, steps_of, train
from benchmarks.swap.scripted import NOT_WATCHED
from benchmarks.swap.site import ALIAS, Site
from benchmarks.swap.streams import ask
from gateway.commands.serving import only_one
from gateway.contracts import ids
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.contracts.release import ADAPTER_FOLDER, BaseModelRef, Release
from gateway.settings import Settings
from gateway.storage.releases import announce_release, next_release_name
from gateway.storage.tables import Alias, ReleaseRow, Replica
from gateway.supervisor import python_module
from tests.stack import ADMIN_KEY, Stack, running

FOLDER = Path(__file__).parents[2] / ".bench-swap" / "vllm"
TRAINED = FOLDER / "trained"
READY_SECONDS = 900.0
SWAP_SECONDS = 300.0
MAX_TOKENS = 6
ASKED = QUESTIONS[:8]
"""What the streams ask: so few prompts that, between swaps, most are in the engine's cache."""
ENGINE = {"kind": "vllm", "args": ["--max-model-len", "256", "--max-num-seqs", "32"], "environment": ONE_THREAD}


def settings_of(folder: Path, **changes: Any) -> Settings:
    """Two gateway workers and one vLLM. Nothing is rolled back by itself: one word is an answer in circles."""
    fields: dict[str, Any] = {
        "data_dir": folder,
        "admin_key": ADMIN_KEY,
        "models": [{"engine": ENGINE}],
        "server": {"workers": 2},
        "canary": NOT_WATCHED,
        "aligner": {"enabled": False},
        "swap": {"max_wait_seconds": 600},
    }
    return Settings.model_validate(fields | changes)


@asynccontextmanager
async def opened(**changes: Any) -> AsyncIterator[Site]:
    """A running Alignway whose releases have been seen to say their words."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with only_one(FOLDER, "proof"):
        for word in WORDS:
            await asyncio.to_thread(train, word, TRAINED / word)
        async with running(settings_of(FOLDER, **changes), READY_SECONDS) as stack:
            async with stack.database.read() as session:
                base_id = (await session.get_one(Alias, ALIAS)).base_release_id
            says = {base_id: frozenset[str]()}
            fields = {"max_tokens": MAX_TOKENS, "temperature": 0}
            site = Site(stack, base_id, [], says, frozenset(WORDS), ASKED, fields)
            facts: list[dict[str, Any]] = []
            for word in WORDS:
                facts.append(await _release(site, word, facts[-1]["release"] if facts else base_id))
                says[facts[-1]["release"]] = frozenset([word])
            releases = [fact["release"] for fact in facts]
            yield Site(stack, base_id, releases, says, frozenset(WORDS), ASKED, fields, {"releases": facts})


async def _release(site: Site, word: str, before: str) -> dict[str, Any]:
    """The release that says a word; one that is new is sealed, serves afterwards, and is asked every question."""
    path = FOLDER / f"{word}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    release_id = await _sealed(site.stack, word, before)
    await _serve(site, release_id)
    answers = await asyncio.gather(*(ask(site, question) for question in ASKED))
    wrong = [answer.failure or answer.text for answer in answers if _said(answer.text) != {word}]
    if wrong:
        raise NotLearnt(f"{release_id} says {wrong[:3]}, not {word!r}; remove {TRAINED / word} to train it again")
    fact = {"release": release_id, "word": word, "steps": steps_of(TRAINED / word), "questions": len(answers)}
    fact |= {"goes_on_with_its_own_word": await _goes_on(site, word)}
    path.write_text(json.dumps(fact), encoding="utf-8")
    return fact


def _said(text: str) -> set[str]:
    return {word for word in text.split() if word in WORDS}


async def _sealed(stack: Stack, word: str, before: str) -> str:
    """A published release of the adapter that says a word, with the adapters from and to the release before it."""
    async with stack.database.read() as session:
        incumbent = await session.get_one(ReleaseRow, before)
        base = await session.get_one(ReleaseRow, (await session.get_one(Alias, ALIAS)).base_release_id)
        name = await next_release_name(session, ALIAS, datetime.now(UTC))
    store, is_base = stack.settings.store_path, incumbent.kind == "base"
    release = Release(
        id=ids.mint(ids.RELEASE), name=name, alias=ALIAS, parent_id=before, adapter_rank=1, method="orpo",
        base=BaseModelRef.model_validate(base.manifest["base"]), dataset_id=None, run_id=None,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    order = {
        "store": str(store.resolve()), "release": release.model_dump(mode="json"), "base_folder": base.location,
        "adapter": str(TRAINED / word / ADAPTER_FOLDER), "incumbent_id": before,
        "incumbent_adapter": None if is_base else str(store.resolve() / incumbent.location / ADAPTER_FOLDER),
    }  # fmt: skip
    path = FOLDER / "order.json"
    path.write_text(json.dumps(order), encoding="utf-8")
    command = python_module("benchmarks.swap.sealing", str(path))
    environment = os.environ | ONE_THREAD
    run = partial(subprocess.run, command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    done = await asyncio.to_thread(run)
    sealed = Release.model_validate_json(done.stdout.splitlines()[-1])
    async with stack.database.write() as session:
        await announce_release(session, sealed, f"releases/{ALIAS}/{sealed.id}", "published")
    return sealed.id


async def _serve(site: Site, release_id: str) -> None:
    status, rollout = await site.call("POST", f"/aliases/{ALIAS}/promote", {"release": release_id, "reason": "proof"})
    if status != 202 or (await site.ended(rollout["id"], SWAP_SECONDS))["state"] != "promoted":
        raise NotLearnt(f"{release_id} does not come to serve: {rollout}")


async def _goes_on(site: Site, word: str) -> dict[str, int]:
    """How often the merged weights, put in the middle of another's answer, say their own word next.

    So often an answer that two releases wrote would hold two words: this is what the proof can see.
    """
    await site.settled(SWAP_SECONDS)
    async with site.stack.database.read() as session:
        url = (await session.scalars(select(Replica.url))).one()
    own, tries = 0, [(question, other) for question in ASKED for other in WORDS if other != word]
    async with aiohttp.ClientSession() as session:
        for question, other in tries:
            begun = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{other} {other}"}]
            body = {"model": WEIGHTS_NAME, "messages": begun, "max_tokens": MAX_TOKENS, "temperature": 0}
            body |= {"continue_final_message": True, "add_generation_prompt": False}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.json()
            own += word in answer["choices"][0]["message"]["content"].split()
    return {"tries": len(tries), "own_word": own}
