"""What every demo is made of: ask the unseen prompts, teach, train, and say what was learnt. Over HTTP alone."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.progress import Progress

from gateway.demo.answer import Answer
from gateway.demo.asking import VOTE_MAX_TOKENS, ask_greedily, teach
from gateway.demo.prompts import load_prompts
from gateway.demo.report import Example, LearningReport, Measured, Stage, Teaching
from gateway.demo.service import Advance, DemoFailed, Service, only_release
from gateway.demo.statistics import answer_controls, paired_difference, perplexity_control, share


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
    vote_max_tokens: int = VOTE_MAX_TOKENS
    max_steps: int | None = None
    """Train so many steps at most; by default as many as the trainer finds right."""
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
    def stage(self, name: str, total: float, doing: str = "", typed: Sequence[str] = ()) -> Iterator[Advance]:
        """One stage of `total` steps; yields the function to advance it with.

        What it is `doing`, and what a person would have `typed` for it, are printed where they are given.
        """
        self.tell(f"\n{doing}" if doing else "", typed)
        task, started = self.progress.add_task(name, total=total), time.monotonic()
        yield lambda steps: self.progress.advance(task, steps)
        seconds = time.monotonic() - started
        self.done.append(Stage(name=name, started_seconds=started - self.began, seconds=seconds))
        self.progress.update(task, completed=total)

    def tell(self, text: str, typed: Sequence[str] = ()) -> None:
        """Print a line above the bars, and commands below it."""
        lines = [*([text] if text else []), *(f"  $ {line}" for line in typed)]
        if lines:
            self.progress.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Telling:
    """What a stage says of itself; nothing, where the bar alone is enough."""

    doing: str = ""
    typed: tuple[str, ...] = ()


SILENT = Telling()


class Player:
    """One service, one set of prompts, and the steps that any demo plays with them."""

    def __init__(self, service: Service, settings: DemoSettings, stages: Stages) -> None:
        prompts = load_prompts()
        if settings.unseen > len(prompts.unseen):
            raise DemoFailed(f"there are {len(prompts.unseen)} unseen prompts, not {settings.unseen}")
        self.service = service
        self.settings = settings
        self.stages = stages
        self.unseen = prompts.unseen[: settings.unseen]
        self.teaching = prompts.teaching

    async def ask(self, name: str, telling: Telling = SILENT) -> list[Answer]:
        """A greedy answer to each unseen prompt."""
        chosen = self.settings
        with self.stages.stage(name, len(self.unseen), telling.doing, telling.typed) as advance:
            return await ask_greedily(
                self.service, self.unseen, chosen.fixed, chosen.concurrency, chosen.max_tokens, advance
            )

    async def teach(self, telling: Telling = SILENT) -> Teaching:
        """Ask teaching prompts and let the annotator judge, until there are pairs enough."""
        chosen = self.settings
        with self.stages.stage("teach", chosen.pairs, telling.doing, telling.typed) as advance:
            return await teach(
                self.service,
                self.teaching,
                chosen.pairs,
                chosen.concurrency,
                chosen.teaching_max_tokens,
                advance,
                chosen.vote_max_tokens,
            )

    async def train(self, telling: Telling = SILENT) -> dict[str, Any]:
        """Ask for a run, and wait until its release is there; returns the run."""
        with self.stages.stage("train and evaluate", 1.0, telling.doing, telling.typed) as advance:
            steps = self.settings.max_steps
            options = {} if steps is None else {"options": {"max_steps": steps}}
            begun = await self.service.post("/retrain", {"alias": self.service.alias} | options)
            return await self.finished_run(str(begun["id"]), advance)

    async def finished_run(self, run_id: str, advance: Advance) -> dict[str, Any]:
        """The run once it has made its release."""
        run = await self.service.wait_for_run(run_id, self.settings.train_timeout_seconds, advance)
        if not run.get("release_id"):
            raise DemoFailed(f"run {run_id} succeeded, but names no release")
        return run

    async def release(self, release_id: str) -> dict[str, Any]:
        """A release with its metrics and gates."""
        return await self.service.get(f"/releases/{release_id}")

    async def count_restored(self, old_answers: Sequence[Answer]) -> int:
        """How many greedy answers, asked as they were before, are the same byte for byte and from the same release."""
        prompts = self.unseen[: len(old_answers)]
        found = await ask_greedily(
            self.service, prompts, len(prompts), 1, self.settings.max_tokens, advance=lambda _: None
        )
        pairs = zip(old_answers, found, strict=True)
        return sum((old.text, old.release_id) == (now.text, now.release_id) for old, now in pairs)

    def learnt(
        self, before: list[Answer], after: list[Answer], taught: Teaching, metrics: dict[str, Any]
    ) -> LearningReport:
        """What changed between the two rounds of the same prompts."""
        style_before, style_after = ([answer.in_style for answer in answers] for answers in (before, after))
        words_before, words_after = (tuple(answer.words for answer in answers) for answers in (before, after))
        perplexity = _measured(metrics, "perplexity_base", "perplexity")
        controls = answer_controls([answer.text for answer in after], words_after)
        return LearningReport(
            alias=self.service.alias,
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
            stages=tuple(self.stages.done),
            examples=_examples(self.unseen, before, after),
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
