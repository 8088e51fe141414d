"""The job of measuring: candidate, incumbent and base with one copy of the base's weights in memory."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from alignment.gate.answers import Answer
from alignment.gate.comparison import Sides, compared, sign_test
from alignment.gate.drift import answered_rows, answers_kl, changed_shares
from alignment.gate.generations import generation_metrics, pinned_prompts, write_answers
from alignment.gate.holdout import (
    BesideBase,
    PairScore,
    holdout_metrics,
    kl_to_base,
    length_matched,
    score_beside_base,
    score_pairs,
)
from alignment.gate.languages import Language, languages_of
from alignment.gate.perplexity import perplexity, perplexity_texts
from alignment.gate.progress import OnProgress, untold
from alignment.gate.tasks import TaskSet, load_tasks, score_tasks
from alignment.jobs.contracts import CaseReport, EvaluateJob, EvaluateResult, MeasuredValue, TaskReport, TaskTest
from alignment.models import load_adapted, load_renderer, load_tokenizer, pad_id, training_device
from alignment.pairs.pair import PreferencePair
from alignment.pairs.read import read_pairs
from alignment.pairs.render import PairRenderer, end_token_ids
from alignment.pairs.tokens import TokenPair
from alignment.step.pair_step import PairStep
from gateway.contracts.case import failures_of
from gateway.contracts.message import Message

_CANDIDATE, _INCUMBENT, _BASE = "default", "incumbent", "base"
_TOLD_AS = {_CANDIDATE: "candidate", _INCUMBENT: "incumbent", _BASE: "base"}

T = TypeVar("T")
Watch = Callable[[str, int], OnProgress]
"""Told what begins and how many it will be; answers with what to call when some are done."""


def evaluate(job: EvaluateJob, watch: Watch = lambda _, __: untold) -> EvaluateResult:
    """Measure what the job asks for. What is not there is found before anything long begins."""
    sets = load_tasks(job.tasks, job.tasks_folder, job.task_shots)
    pairs = [] if job.pairs_file is None else list(read_pairs(job.pairs_file))
    rendered = load_renderer(job.base_folder, job.max_length_tokens).render_all(pairs)
    languages = languages_of(_texts(pairs), job.languages)
    models = _Models(job, watch)
    metrics: dict[str, MeasuredValue] = {}
    if rendered.pairs:
        metrics |= _on_pairs(models, rendered.pairs)
    metrics |= _on_texts(models, languages)
    if job.generate_tokens:
        metrics |= _on_prompts(models, languages, job)
    on_tasks, reports = _on_tasks(models, sets, job.task_limit)
    return EvaluateResult(
        metrics=metrics | on_tasks,
        pairs=len(rendered.pairs),
        prompts=len({pair.prompt_hash for pair in rendered.pairs}),
        matched_pairs=len(length_matched(rendered.pairs)),
        answers=len(pinned_prompts(languages)) if job.generate_tokens else 0,
        dropped=rendered.dropped,
        languages=languages,
        tasks=reports,
        cases=_on_cases(models, job),
    )


class _Models:
    """One model in memory that is candidate, incumbent or base by switching adapters, not by loading anew."""

    def __init__(self, job: EvaluateJob, watch: Watch) -> None:
        self.tokenizer = load_tokenizer(job.base_folder)
        self.model = load_adapted(job.base_folder, job.candidate).to(training_device("auto"))
        self.has_base = job.candidate is not None
        self.has_incumbent = self.has_base and job.incumbent is not None
        if self.has_incumbent:
            self.model.load_adapter(str(job.incumbent), _INCUMBENT)
        self.pad_id = pad_id(self.tokenizer)
        with torch.no_grad():  # nothing is learnt here, so the step need not try its gradients
            self.step = PairStep(self.model, self.pad_id)
        self._watch = watch

    def each(self, what: str, total: int, measure: Callable[[OnProgress], T]) -> Sides[T]:
        """Measure the same thing under every model."""
        found = {who: self.under(who, what, total, measure) for who in self._names()}
        return Sides(found[_CANDIDATE], found.get(_BASE), found.get(_INCUMBENT))

    def under(self, who: str, what: str, total: int, measure: Callable[[OnProgress], T]) -> T:
        """Measure one thing under one model."""
        with self._as(who):
            return measure(self._watch(f"{what}, {_TOLD_AS[who]}", total))

    def _names(self) -> Iterator[str]:
        yield _CANDIDATE
        if self.has_incumbent:
            yield _INCUMBENT
        if self.has_base:
            yield _BASE

    @contextlib.contextmanager
    def _as(self, who: str) -> Iterator[None]:
        if not self.has_base:
            yield
        elif who == _BASE:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter(who)
            yield


def _on_pairs(models: _Models, pairs: list[TokenPair]) -> dict[str, MeasuredValue]:
    what, count = "held-out pairs", len(pairs)

    def score(told: OnProgress) -> list[PairScore]:
        return score_pairs(models.model, pairs, models.pad_id, told, models.step)

    def score_beside(told: OnProgress) -> BesideBase:
        return score_beside_base(models.model, pairs, models.pad_id, told, models.step)

    if not models.has_base:
        return dict(holdout_metrics(pairs, Sides(models.under(_CANDIDATE, what, count, score))))
    beside = models.under(_CANDIDATE, what, count, score_beside)
    incumbent = models.under(_INCUMBENT, what, count, score) if models.has_incumbent else None
    compared_on_pairs = holdout_metrics(pairs, Sides(beside.own, beside.base, incumbent))
    return {**compared_on_pairs, "kl_to_base": kl_to_base(pairs, beside.divergence)}


def _on_texts(models: _Models, languages: tuple[Language, ...]) -> dict[str, MeasuredValue]:
    metrics: dict[str, MeasuredValue] = {}
    for language in languages:
        texts = perplexity_texts(language)

        def measure(told: OnProgress, texts: list[str] = texts) -> float:
            return perplexity(models.model, models.tokenizer, texts, told, models.step)

        name = "perplexity" if language == "en" else f"perplexity_{language}"
        sides = models.each(f"texts ({language})", len(texts), measure)
        metrics |= {name: sides.candidate, f"{name}_base": sides.candidate} | dict(sides.named(name))
    return metrics


def _on_prompts(models: _Models, languages: tuple[Language, ...], job: EvaluateJob) -> dict[str, MeasuredValue]:
    prompts = pinned_prompts(languages)
    ids = _prompt_ids(models, job, [(Message(role="user", content=prompt),) for prompt in prompts])
    answers = _answered(models, job, "answers", ids, job.generate_tokens)
    metrics: dict[str, MeasuredValue] = dict(generation_metrics(prompts, answers))
    if job.measures_drift and models.has_base:
        metrics |= changed_shares(answers)
        rows = answered_rows(ids, answers.candidate, models.tokenizer.eos_token_id)

        def drift(told: OnProgress) -> MeasuredValue:
            return answers_kl(models.model, rows, models.step, told)

        metrics["answers_kl_to_base"] = models.under(_CANDIDATE, "distance of answers", len(rows), drift)
    return metrics


def _on_cases(models: _Models, job: EvaluateJob) -> tuple[CaseReport, ...]:
    """The operator's questions; a base that is measured alone is compared with itself."""
    if not job.cases:
        return ()
    ids = _prompt_ids(models, job, [case.prompt for case in job.cases])
    answers = _answered(models, job, "cases", ids, job.case_tokens)
    before = answers.candidate if answers.rival is None else answers.rival
    return tuple(
        CaseReport(
            id=case.id,
            severity=case.severity,
            answer=now.text,
            failures=tuple(failures_of(case, now.text)),
            answer_before=then.text,
            failures_before=tuple(failures_of(case, then.text)),
        )
        for case, now, then in zip(job.cases, answers.candidate, before, strict=True)
    )


def _prompt_ids(models: _Models, job: EvaluateJob, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
    renderer = PairRenderer(models.tokenizer, _end_ids(models, job), job.max_length_tokens)
    return [renderer.prompt_ids(prompt) for prompt in prompts]


def _answered(models: _Models, job: EvaluateJob, what: str, ids: list[list[int]], tokens: int) -> Sides[list[Answer]]:
    """Greedy answers of every model."""

    def measure(told: OnProgress) -> list[Answer]:
        return write_answers(models.model, models.tokenizer, ids, _end_ids(models, job), tokens, told)

    return models.each(what, len(ids), measure)


def _end_ids(models: _Models, job: EvaluateJob) -> frozenset[int]:
    return frozenset(end_token_ids(job.base_folder)) | {models.tokenizer.eos_token_id}


def _on_tasks(
    models: _Models, sets: list[TaskSet], limit: int | None
) -> tuple[dict[str, MeasuredValue], dict[str, TaskReport]]:
    metrics: dict[str, MeasuredValue] = {}
    reports = {}
    for one in sets:
        items, name = one.items(limit), one.benchmark.name

        def measure(told: OnProgress, one: TaskSet = one) -> list[float]:
            return score_tasks(one, models.model, models.tokenizer, limit, told)

        sides = models.each(name, len(items), measure)
        metrics |= compared(f"task_{name}", sides, items)
        against = {
            f"against_{who}": TaskTest(**sign_test(sides.candidate, other)._asdict())
            for who, other in (("incumbent", sides.incumbent), ("base", sides.base))
            if other is not None
        }
        reports[name] = TaskReport(items=len(items), subjects=len(one.tasks), missing=one.missing, **against)
    return metrics, reports


def _texts(pairs: list[PreferencePair]) -> Iterator[str]:
    for pair in pairs:
        yield from (message.text for message in (*pair.prompt, pair.chosen, pair.rejected))
