"""The scripted engine: it writes the marker of whatever weights it holds at that very moment into every fifth word.

So it proves the gateway's fence and the agent's exchange, word for word, not an engine's speed.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.swap.site import ALIAS, Site
from gateway.storage.tables import ReleaseRow
from tests.stack import running, stack_settings

NAMES = ("ONE", "TWO", "THREE")
PROMPTS = tuple(f"[words:12] question {number}" for number in range(500))
CHUNK_SECONDS = "0.25"
"""An answer takes 3 s: so many streams stay open, and leave two busy cores room for the rest."""
NOT_WATCHED = {"watch_seconds": 0}
"""No release is rolled back by itself for what a proof does to it."""


@asynccontextmanager
async def opened(database_url: str | None = None, **changes: Any) -> AsyncIterator[Site]:
    """A gateway of two workers over one scripted engine, in a temporary folder.

    Each release brings the adapters from and to the one before it, as those of real runs do.
    """
    with tempfile.TemporaryDirectory() as folder:
        engine = {"kind": "scripted", "args": ["--chunk-seconds", CHUNK_SECONDS]}
        fields = {
            "models": [{"model": f"{folder}/model", "engine": engine}],
            "server": {"workers": 2},
            "canary": NOT_WATCHED,
        }
        settings = stack_settings(Path(folder), database_url, **fields | changes)
        async with running(settings) as stack:
            _, alias = await stack.call("GET", f"/admin/v1/aliases/{ALIAS}")
            base_id = str(alias["serving_release"])
            async with stack.database.read() as session:
                before = await session.get_one(ReleaseRow, base_id)
            says, releases, marker = {base_id: {"BASE"}}, list[str](), ""
            for marker in NAMES:
                release = await stack.make_release(marker, over=before)
                releases.append(release.id)
                says[release.id] = {marker, f"{marker}-DIFFERENCE"}
                says[before.id].add(f"{marker}-REVERSE")
                before = release
            allowed = {release_id: frozenset(said) for release_id, said in says.items()}
            yield Site(stack, base_id, releases, allowed, frozenset().union(*allowed.values()), PROMPTS)
