"""The demo, top to bottom: ask, teach, train, swap under streams, ask again, roll back. Over HTTP alone.

What it knows of the service is the public API; what it thinks of the answers is in `annotator.py` and `report.py`.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.demo.answer import Answer
from gateway.demo.asking import ask_greedily, teach
from gateway.demo.prompts import load_prompts
from gateway.demo.report import DemoReport, Example, Measured, Rollback, Stage, Streams, Teaching
from gateway.demo.service import Advance, DemoFailed, Service, explain, only_release
from gateway.demo.statistics import answer_controls, paired_difference, perplexity_control, share
from gateway.demo.streams import StreamLoad

REASON = "demo"


@dataclass(frozen=True)
class DemoSettings:
    """How large the demo is. The defaults are what `alignway demo` plays."""

    unseen: int = 48
    """Unseen prompts, asked before and after."""
    pairs: int = 96
    """Teach until the service made so many pairs, holdout included."""
    fixed: int = 4
    """The first unseen prompts, asked one at a time, whose answers must come back after the rollback."""
    concurrency: int = 16
    streams: int = 4
    max_tokens: int = 160
    teaching_max_tokens: int = 96
    """A correction cuts the answer anyway, so there is no need to wait for its end."""
    train_timeout_seconds: float = 1800.0
    swap_timeout_seconds: float = 300.0
    settle_seconds: float = 60.0
    """After a rollback, the merged weights of the incumbent may come back this much later than its answers."""


QUICK = DemoSettings(unseen=16, pairs=40, fixed=4, max_tokens=128)
"""A small demo, to see that all parts turn; too small to be sure of a gain."""


@dataclass
class Stages:
    """Times each stage and shows its progress."""

    progress: Progress
    began: float = field(default_factory=time.monotonic)
    done: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[Advance]:
        """One stage of `total` steps; yields the function to advance it with."""
        task, started = self.progress.add_task(name, total=total), time.monotonic()
        yield lambda steps: self.progress.advance(task, steps)
        seconds = time.monotonic() - started
        self.done.append(Stage(name=name, started_seconds=started - self.began, seconds=seconds))
        self.progress.update(task, completed=total)


def run_demo(base_url: str, api_key: str, alias: str, settings: DemoSettings, console: Console) -> DemoReport:
    """Play the demo against a running service; progress goes to `console`. Raises `DemoFailed` where it cannot end."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        return asyncio.run(play_demo(base_url, api_key, alias, settings, progress))


async def play_demo(base_url: str, api_key: str, alias: str, settings: DemoSettings, progress: Progress) -> DemoReport:
    """As `run_demo`, inside an event loop and with a progress display of one's own."""
    service = Service(base_url, api_key, alias)
    try:
        return await _Demo(service, settings, Stages(progress)).play()
    except openai.OpenAIError as error:
        raise DemoFailed(f"the service refused or did not answer: {explain(error)}") from error
    finally:
        await service.close()


class _Demo:
    def __init__(self, service: Service, settings: DemoSettings, stages: Stages) -> None:
        prompts = load_prompts()
        if settings.unseen > len(prompts.unseen):
            raise DemoFailed(f"there are {len(prompts.unseen)} unseen prompts, not {settings.unseen}")
        self._service = service
        self._settings = settings
        self._stages = stages
        self._unseen = prompts.unseen[: settings.unseen]
        self._teaching = prompts.teaching

    async def play(self) -> DemoReport:
        """Every stage in its order."""
        before = await self._ask("ask, before")
        incumbent_id = only_release(before)
        taught = await self._teach()
        candidate_id = await self._train()
        metrics = await self._metrics(candidate_id)
        streams = await self._swap(incumbent_id, candidate_id)
        after = await self._ask("ask, after")
        if (found := only_release(after)) != candidate_id:
            raise DemoFailed(f"after the promotion of {candidate_id} the answers come from {found}")
        rollback = await self._roll_back(before[: self._settings.fixed])
        return self._report(before, after, taught, metrics, streams, rollback)

    async def _ask(self, name: str) -> list[Answer]:
        chosen = self._settings
        with self._stages.stage(name, len(self._unseen)) as advance:
            return await ask_greedily(
                self._service, self._unseen, chosen.fixed, chosen.concurrency, chosen.max_tokens, advance
            )

    async def _teach(self) -> Teaching:
        chosen = self._settings
        with self._stages.stage("teach", chosen.pairs) as advance:
            return await teach(
                self._service, self._teaching, chosen.pairs, chosen.concurrency, chosen.teaching_max_tokens, advance
            )

    async def _train(self) -> str:
        """Ask for a run, and wait for its release."""
        with self._stages.stage("train and evaluate", 1.0) as advance:
            begun = await self._service.post("/retrain", {"alias": self._service.alias})
            run = await self._service.wait_for_run(str(begun["id"]), self._settings.train_timeout_seconds, advance)
        if not run.get("release_id"):
            raise DemoFailed(f"run {begun['id']} succeeded, but names no release")
        return str(run["release_id"])

    async def _metrics(self, release_id: str) -> dict[str, Any]:
        release = await self._service.get(f"/releases/{release_id}")
        return dict(release.get("metrics") or {})

    async def _swap(self, incumbent_id: str, candidate_id: str) -> Streams:
        """Promote while streams run; the stage lasts until the last of them ended."""
        chosen, service = self._settings, self._service
        load = StreamLoad(service, self._teaching, chosen.streams, chosen.max_tokens)
        with self._stages.stage("swap under streams", 1.0) as advance:
            async with load.running(chosen.swap_timeout_seconds):
                body = {"release": candidate_id, "strategy": "immediate", "expected_current": incumbent_id}
                rollout = await service.post(f"/aliases/{service.alias}/promote", body | {"reason": REASON})
                await service.wait_for_rollout(str(rollout["id"]), chosen.swap_timeout_seconds, advance)
        return load.seen({incumbent_id, candidate_id})

    async def _roll_back(self, old_answers: Sequence[Answer]) -> Rollback:
        """Give the alias back to the incumbent, and ask until its old answers are there or it took too long."""
        chosen, service = self._settings, self._service
        began = time.monotonic()
        with self._stages.stage("roll back", 1.0) as advance:
            rollout = await service.post(f"/aliases/{service.alias}/rollback", {"reason": REASON})
            await service.wait_for_rollout(str(rollout["id"]), chosen.swap_timeout_seconds, advance)
            deadline = time.monotonic() + chosen.settle_seconds
            while (restored := await self._count_restored(old_answers)) < len(old_answers):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(1.0)
        return Rollback(seconds=time.monotonic() - began, compared=len(old_answers), restored=restored)

    async def _count_restored(self, old_answers: Sequence[Answer]) -> int:
        """How many greedy answers, asked as they were before, are the same byte for byte and from the same release."""
        prompts = self._unseen[: len(old_answers)]
        found = await ask_greedily(
            self._service, prompts, len(prompts), 1, self._settings.max_tokens, advance=lambda _: None
        )
        pairs = zip(old_answers, found, strict=True)
        return sum((old.text, old.release_id) == (now.text, now.release_id) for old, now in pairs)

    def _report(
        self,
        before: list[Answer],
        after: list[Answer],
        taught: Teaching,
        metrics: dict[str, Any],
        streams: Streams,
        rollback: Rollback,
    ) -> DemoReport:
        style_before, style_after = ([answer.in_style for answer in answers] for answers in (before, after))
        words_before, words_after = (tuple(answer.words for answer in answers) for answers in (before, after))
        perplexity = _measured(metrics, "perplexity_base", "perplexity")
        controls = answer_controls([answer.text for answer in after], words_after)
        return DemoReport(
            alias=self._service.alias,
            incumbent_id=only_release(before),
            candidate_id=only_release(after),
            style_before=share(style_before),
            style_after=share(style_after),
            difference=paired_difference(style_before, style_after),
            words_before=words_before,
            words_after=words_after,
            holdout_accuracy=_measured(metrics, "holdout_accuracy_incumbent", "holdout_accuracy"),
            perplexity=perplexity,
            controls=(*controls, perplexity_control(perplexity.before, perplexity.after)),
            teaching=taught,
            streams=streams,
            rollback=rollback,
            stages=tuple(self._stages.done),
            examples=_examples(self._unseen, before, after),
        )


def _examples(prompts: Sequence[str], before: list[Answer], after: list[Answer], count: int = 3) -> tuple[Example, ...]:
    shown = list(zip(prompts, before, after, strict=True))[:count]
    return tuple(Example(prompt=prompt, before=old.text, after=new.text) for prompt, old, new in shown)


def _measured(metrics: dict[str, Any], before: str, after: str) -> Measured:
    return Measured(before=_number(metrics.get(before)), after=_number(metrics.get(after)))


def _number(metric: Any) -> float | None:
    """A metric is a number, or an interval with its `value`."""
    value = metric.get("value") if isinstance(metric, dict) else metric
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
