"""Swaps through LMDeploy's real API server: its agent, its routes, its dialect; only the decoding engine is a stand-in.

LMDeploy decodes on accelerators alone. Here transformers decodes under its server, and takes new weights as LMDeploy's
own engine does. Two models of random weights and their base write other words to the same prompt, always the same
ones: what each has to write is computed beforehand, from its folder. An answer is right if it is, to the letter, what
the release it names writes; an answer of two releases is nobody's.
"""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import track
from sqlalchemy import select

from benchmarks.record import quantiles
from benchmarks.swap.heard import Heard, Window, figures, told_apart
from gateway.contracts.seal import write_seal
from gateway.storage.tables import Replica
from tests.gateway.engines.lmdeploy_servers import PYTHON, write_model, write_python
from tests.stack import Stack, running, stack_settings

PROMPTS = tuple(f"Name {number} rivers of the north." for number in range(8))
MAX_TOKENS = 8
STEP_SECONDS = 0.5
PAUSE_SECONDS = 0.2
LOOK_SECONDS = 0.02
SWAP_SECONDS = 300.0
BASE_SEED = 1
SEEDS = (2, 3)
Texts = dict[str, str]
"""By prompt: what a release writes."""


async def measure(swaps: int, streams: int, minutes: float, database_url: str | None) -> dict[str, Any]:
    """Promote two releases and roll both back, over and over, under load."""
    with tempfile.TemporaryDirectory(prefix="alignway-swap-") as name:
        folder = Path(name)
        base = write_model(folder / "base", BASE_SEED)
        engine = {
            "kind": "lmdeploy",
            "python": str(write_python(folder)),
            "args": ["--max-batch-size", str(streams), "--session-len", "256"],
            "environment": {
                "STUB_ENGINE": "transformers",
                "STUB_STEP_SECONDS": str(STEP_SECONDS),
                "OMP_NUM_THREADS": "1",
            },
        }
        models = [{"model": str(base), "engine": engine}]
        settings = stack_settings(folder, database_url, models=models, server={"workers": 2})
        async with running(settings) as stack:
            return await _under_load(stack, base, swaps, streams, minutes)


async def _under_load(stack: Stack, base: Path, swaps: int, streams: int, minutes: float) -> dict[str, Any]:
    _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
    texts = {alias["serving_release"]: await asyncio.to_thread(written_by, base)}
    releases = []
    for seed in SEEDS:
        release_id, folder = await _make_release(stack, seed)
        texts[release_id] = await asyncio.to_thread(written_by, folder)
        releases.append(release_id)
    if any(len({texts[release][prompt] for release in texts}) != len(texts) for prompt in PROMPTS):
        raise SystemExit("two releases write the same to one prompt: take other seeds")
    await stack.ask("What a client loads with its first request is no part of any wait.", max_tokens=1)
    heard, windows, fences = Heard(), list[Window](), list[Window]()
    tasks = [asyncio.create_task(_listen(stack, heard, texts, lane)) for lane in range(streams)]
    tasks.append(asyncio.create_task(_watch_fence(stack, fences)))
    began_at, deadline = datetime.now(UTC), time.monotonic() + minutes * 60
    for number in track(range(swaps), description="swaps"):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.monotonic()
        await _swap(stack, number, releases, heard)
        windows.append((began, time.monotonic()))
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    newcomers, others = told_apart(heard, fences)
    return figures(heard, windows, streams) | {
        "began_at": f"{began_at:%H:%M:%S}",
        "engine": "lmdeploy",
        "engine_version": await asyncio.to_thread(_version),
        "promoted": sum(number % 4 < 2 for number in range(len(windows))),
        "rolled_back": sum(number % 4 >= 2 for number in range(len(windows))),
        "stall_seconds": quantiles([end - begin for begin, end in fences]),
        "newcomers": len(newcomers),
        "newcomer_first_chunk_seconds": quantiles(newcomers),
        "other_first_chunk_seconds": quantiles(others),
    }


async def _swap(stack: Stack, number: int, releases: list[str], heard: Heard) -> None:
    """Of four in turn: promote the one, promote the other, and roll back twice."""
    if number % 4 < 2:
        rollout = await stack.promote(releases[number % 4])
    else:
        status, rollout = await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {"reason": "benchmark"})
        if status != 202:
            heard.failures.append(f"rollback {number} was refused: {rollout}"[:200])
            return
    ended = await stack.ended(rollout["id"], SWAP_SECONDS)
    if ended["state"] != "promoted":
        heard.failures.append(f"rollout {number} ended {ended['state']}: {ended['detail']}"[:200])


async def _listen(stack: Stack, heard: Heard, texts: dict[str, Texts], lane: int) -> None:
    """Ask without pause until cancelled."""
    number = lane
    while True:
        number += 1
        try:
            await _listen_once(stack, heard, texts, PROMPTS[number % len(PROMPTS)])
        except asyncio.CancelledError:
            raise
        except Exception as error:  # counted, and shown with the figures
            cause = f", of {error.__cause__!r}" if error.__cause__ else ""
            heard.failures.append(f"{datetime.now(UTC):%H:%M:%S} {type(error).__name__}: {error}{cause}"[:300])


async def _listen_once(stack: Stack, heard: Heard, texts: dict[str, Texts], prompt: str) -> None:
    text, fingerprints, finish, first, sent = "", set(), None, None, time.monotonic()
    messages: Any = [{"role": "user", "content": prompt}]
    stream = await stack.client.chat.completions.create(
        model="assistant", messages=messages, stream=True, temperature=0, max_tokens=MAX_TOKENS
    )
    async for chunk in stream:
        first = first or time.monotonic() - sent
        fingerprints.add(str(chunk.system_fingerprint))
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    heard.answers += 1
    heard.first_chunk_seconds.append((sent, first or 0.0))
    if finish != "length":
        heard.failures.append(f"finish_reason is {finish}")
    if len(fingerprints) != 1 or text != texts[fingerprints.pop()][prompt]:
        heard.mixed += 1


async def _watch_fence(stack: Stack, fences: list[Window]) -> None:
    """Note from when to when the replica was fenced off."""
    began: float | None = None
    while True:
        async with stack.database.read() as session:
            fenced = (await session.scalars(select(Replica.swap_state))).one() is not None
        if fenced and began is None:
            began = time.monotonic()
        elif not fenced and began is not None:
            fences.append((began, time.monotonic()))
            began = None
        await asyncio.sleep(LOOK_SECONDS)


async def _make_release(stack: Stack, seed: int) -> tuple[str, Path]:
    """A sealed release of full weights alone, which is all that LMDeploy takes; its id and the folder of weights."""
    row = await stack.make_release(f"seed-{seed}")
    folder = stack.settings.store_path / row.location
    for part in ("merged", "adapter"):
        shutil.rmtree(folder / part)
    merged = write_model(folder / "merged", seed)
    write_seal(folder, row.id)
    return row.id, merged


def _version() -> str:
    """As LMDeploy's own environment has it."""
    command = (str(PYTHON), "-c", "from importlib.metadata import version; print(version('lmdeploy'))")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def written_by(folder: Path) -> Texts:
    """What the model in `folder` writes, the likeliest token each time: computed here, without any server."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = {}
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        for _ in range(MAX_TOKENS):
            with torch.inference_mode():
                following = model(ids).logits[0, -1].argmax()
            ids = torch.cat((ids, following.view(1, 1)), dim=1)
        texts[prompt] = tokenizer.decode(ids[0, -MAX_TOKENS:])
    return texts
