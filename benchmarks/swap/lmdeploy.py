"""LMDeploy's real API server: its agent, its routes, its dialect; only the decoding engine is a stand-in.

LMDeploy decodes on accelerators alone. Here transformers decodes under its server, and takes new weights as LMDeploy's
own engine does. Models of random weights write other words to the same prompt, always the same ones: what each has to
write is computed beforehand, from its folder. An answer is right if it is, to the letter, what the release it names
writes; an answer of two releases is nobody's.
"""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.swap.scripted import NOT_WATCHED
from benchmarks.swap.site import ALIAS, Site
from gateway.contracts.seal import write_seal
from tests.gateway.engines.lmdeploy_servers import PYTHON, write_model, write_python
from tests.stack import Stack, running, stack_settings

PROMPTS = tuple(f"Name {number} rivers of the north." for number in range(8))
MAX_TOKENS = 8
STEP_SECONDS = 0.5
BASE_SEED = 1
SEEDS = (2, 3)
Texts = dict[str, str]
"""By prompt: what a release writes."""


@dataclass(frozen=True, kw_only=True)
class ExactSite(Site):
    """One whose releases are known by every letter they write."""

    texts: Mapping[str, Texts]

    def is_right(self, prompt: str, fingerprints: set[str], text: str) -> bool:
        """Whether an answer names one release, and is what that release writes."""
        return [text] == [self.texts.get(name, {}).get(prompt) for name in fingerprints]


@asynccontextmanager
async def opened(streams: int, database_url: str | None = None) -> AsyncIterator[Site]:
    """A gateway of two workers over one LMDeploy that decodes so many streams at once, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="alignway-swap-") as name:
        folder = Path(name)
        base = write_model(folder / "base", BASE_SEED)
        fields: dict[str, Any] = {
            "models": [{"model": str(base), "engine": _engine(folder, streams)}],
            "server": {"workers": 2},
            "swap": {"max_wait_seconds": 600},
            "canary": NOT_WATCHED,
        }
        async with running(stack_settings(folder, database_url, **fields)) as stack:
            _, alias = await stack.call("GET", f"/admin/v1/aliases/{ALIAS}")
            made = dict([await _make_release(stack, seed) for seed in SEEDS])
            weights = {str(alias["serving_release"]): base} | made
            texts = {release: await asyncio.to_thread(written_by, path) for release, path in weights.items()}
            if any(len({said[prompt] for said in texts.values()}) != len(texts) for prompt in PROMPTS):
                raise SystemExit("two releases write the same to one prompt: take other seeds")
            yield ExactSite(
                stack,
                str(alias["serving_release"]),
                list(made),
                prompts=PROMPTS,
                texts=texts,
                fields={"temperature": 0, "max_tokens": MAX_TOKENS},
                facts={"engine_version": await asyncio.to_thread(_version)},
                modes=("merged",),
            )


def _engine(folder: Path, streams: int) -> dict[str, Any]:
    return {
        "kind": "lmdeploy",
        "python": str(write_python(folder)),
        "args": ["--max-batch-size", str(streams), "--session-len", "256"],
        "environment": {
            "STUB_ENGINE": "transformers",
            "STUB_STEP_SECONDS": str(STEP_SECONDS),
            "OMP_NUM_THREADS": "1",
        },
    }


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
