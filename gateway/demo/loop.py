"""The demo, top to bottom: ask, teach, train, swap under streams, ask again, roll back. Over HTTP alone.

What it knows of the service is the public API; what it thinks of the answers is in `annotator.py` and `report.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import openai
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.demo.answer import Answer
from gateway.demo.player import DemoSettings, Player, Stages
from gateway.demo.report import DemoReport, Rollback, Streams
from gateway.demo.service import DemoFailed, Service, explain, only_release
from gateway.demo.streams import StreamLoad

REASON = "demo"

Played = TypeVar("Played")


def run_demo(base_url: str, api_key: str, alias: str, settings: DemoSettings, console: Console) -> DemoReport:
    """Play the demo against a running service; progress goes to `console`. Raises `DemoFailed` where it cannot end."""
    with shown(console) as progress:
        return asyncio.run(play_demo(base_url, api_key, alias, settings, progress))


def shown(console: Console) -> Progress:
    """The bars of a demo."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


async def play_demo(base_url: str, api_key: str, alias: str, settings: DemoSettings, progress: Progress) -> DemoReport:
    """As `run_demo`, inside an event loop and with a progress display of one's own."""
    service = Service(base_url, api_key, alias)
    return await played(service, lambda: _Demo(service, settings, Stages(progress)).play())


async def played(service: Service, play: Callable[[], Awaitable[Played]]) -> Played:
    """What `play` returns; the service is closed afterwards, and what it refused is a `DemoFailed`."""
    try:
        return await play()
    except openai.OpenAIError as error:
        raise DemoFailed(f"the service refused or did not answer: {explain(error)}") from error
    finally:
        await service.close()


class _Demo(Player):
    async def play(self) -> DemoReport:
        """Every stage in its order."""
        before = await self.ask("ask, before")
        incumbent_id = only_release(before)
        taught = await self.teach()
        candidate_id = str((await self.train())["release_id"])
        metrics = dict((await self.release(candidate_id)).get("metrics") or {})
        streams = await self._swap(incumbent_id, candidate_id)
        after = await self.ask("ask, after")
        if (found := only_release(after)) != candidate_id:
            raise DemoFailed(f"after the promotion of {candidate_id} the answers come from {found}")
        rollback = await self._roll_back(before[: self.settings.fixed])
        learnt = self.learnt(before, after, taught, metrics)
        return DemoReport(**dict(learnt), streams=streams, rollback=rollback)

    async def _swap(self, incumbent_id: str, candidate_id: str) -> Streams:
        """Promote while streams run; the stage lasts until the last of them ended."""
        chosen, service = self.settings, self.service
        load = StreamLoad(service, self.teaching, chosen.streams, chosen.max_tokens)
        with self.stages.stage("swap under streams", 1.0) as advance:
            async with load.running(chosen.swap_timeout_seconds):
                body = {"release": candidate_id, "strategy": "immediate", "expected_current": incumbent_id}
                rollout = await service.post(f"/aliases/{service.alias}/promote", body | {"reason": REASON})
                await service.wait_for_rollout(str(rollout["id"]), chosen.swap_timeout_seconds, advance)
        return load.seen({incumbent_id, candidate_id})

    async def _roll_back(self, old_answers: Sequence[Answer]) -> Rollback:
        """Give the alias back to the incumbent, and ask until its old answers are there or it took too long."""
        chosen, service = self.settings, self.service
        began = time.monotonic()
        with self.stages.stage("roll back", 1.0) as advance:
            rollout = await service.post(f"/aliases/{service.alias}/rollback", {"reason": REASON})
            await service.wait_for_rollout(str(rollout["id"]), chosen.swap_timeout_seconds, advance)
            deadline = time.monotonic() + chosen.settle_seconds
            while (restored := await self.count_restored(old_answers)) < len(old_answers):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(1.0)
        return Rollback(seconds=time.monotonic() - began, compared=len(old_answers), restored=restored)
