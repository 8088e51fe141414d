"""The job of measuring: candidate, incumbent and base with one copy of the base's weights in memory."""

from collections.abc import Iterator, Mapping, Sequence

from alignment.gate.answers import Answer
from alignment.gate.comparison import Sides, compared, sign_test
from alignment.gate.drift import answered_rows, answers_divergence, answers_kl, changed_shares
from alignment.gate.generations import generation_metrics, pinned_prompts, write_answers
from alignment.gate.holdout import (
    BesideBase,
    Divergence,
    PairScore,
    holdout_metrics,
    kl_to_base,
    length_matched,
    score_beside_base,
    score_pairs,
)
from alignment.gate.items import AnswerItem, Items, PairItem, SafetyItem, TextItem
from alignment.gate.languages import Language, languages_of
from alignment.gate.perplexity import TextScore, perplexity_of, perplexity_texts, score_texts
from alignment.gate.progress import OnProgress, untold
from alignment.gate.refusals import safety_prompts
from alignment.gate.tasks import TaskSet, load_tasks, score_tasks
from alignment.jobs.compared_models import CANDIDATE, INCUMBENT, ComparedModels, Watch
from alignment.jobs.contracts import (
    CaseReport,
    ComparedAnswers,
    EvaluateJob,
    EvaluateResult,
    MeasuredValue,
    TaskReport,
    TaskTest,
)
from alignment.jobs.itemised import answer_items, pair_items, pair_kinds, safety_items, text_items
from alignment.models import load_renderer
from alignment.pairs.pair import PreferencePair
from alignment.pairs.read import read_pairs
from alignment.pairs.render import PairRenderer, end_token_ids
from alignment.pairs.tokens import TokenPair
from gateway.contracts.case import failures_of
from gateway.contracts.message import Message

Metrics = dict[str, MeasuredValue]


def evaluate(job: EvaluateJob, watch: Watch = lambda _, __: untold) -> EvaluateResult:
    """Measure what the job asks for. What is not there is found before anything long begins."""
    sets = load_tasks(job.tasks, job.tasks_folder, job.task_shots)
    pairs = [] if job.pairs_file is None else list(read_pairs(job.pairs_file))
    rendered = load_renderer(job.base_folder, job.max_length_tokens).render_all(pairs)
    languages = languages_of(_texts(pairs), job.languages)
    models = ComparedModels(job, watch)
    kinds = {} if job.pairs_file is None else pair_kinds(job.pairs_file)
    on_pairs, pair_rows = _on_pairs(models, rendered.pairs, kinds) if rendered.pairs else ({}, ())
    on_texts, text_rows = _on_texts(models, languages)
    on_prompts, answer_rows = _on_prompts(models, languages, job) if job.generate_tokens else ({}, ())
    on_tasks, reports = _on_tasks(models, sets, job.task_limit)
    return EvaluateResult(
        metrics=on_pairs | on_texts | on_prompts | on_tasks,
        pairs=len(rendered.pairs),
        prompts=len({pair.prompt_hash for pair in rendered.pairs}),
        matched_pairs=len(length_matched(rendered.pairs)),
        answers=len(answer_rows),
        dropped=rendered.dropped,
        languages=languages,
        tasks=reports,
        cases=_on_cases(models, job),
        compared=_on_held_out_prompts(models, job, pairs, rendered.pairs),
        items=Items(pairs=pair_rows, texts=text_rows, answers=answer_rows, safety=_on_safety(models, languages, job)),
    )


def _on_pairs(
    models: ComparedModels, pairs: list[TokenPair], kinds: Mapping[str, dict[str, str]]
) -> tuple[Metrics, tuple[PairItem, ...]]:
    what, count = "held-out pairs", len(pairs)

    def score(told: OnProgress) -> list[PairScore]:
        return score_pairs(models.model, pairs, models.pad_id, told, models.step)

    def score_beside(told: OnProgress) -> BesideBase:
        return score_beside_base(models.model, pairs, models.pad_id, told, models.step)

    if not models.has_base:
        sides = Sides(models.under(CANDIDATE, what, count, score))
        return dict(holdout_metrics(pairs, sides)), pair_items(pairs, sides, kinds)
    beside = models.under(CANDIDATE, what, count, score_beside)
    incumbent = models.under(INCUMBENT, what, count, score) if models.has_incumbent else None
    sides = Sides(beside.own, beside.base, incumbent)
    kl = {"kl_to_base": kl_to_base(pairs, beside.divergence)}
    return {**holdout_metrics(pairs, sides), **kl}, pair_items(pairs, sides, kinds)


def _on_texts(models: ComparedModels, languages: tuple[Language, ...]) -> tuple[Metrics, tuple[TextItem, ...]]:
    metrics: Metrics = {}
    rows: tuple[TextItem, ...] = ()
    for language in languages:
        texts = perplexity_texts(language)

        def measure(told: OnProgress, texts: list[str] = texts) -> list[TextScore]:
            return score_texts(models.model, models.tokenizer, texts, told, models.step)

        name = "perplexity" if language == "en" else f"perplexity_{language}"
        scores = models.each(f"texts ({language})", len(texts), measure)
        sides = scores.map(perplexity_of)
        metrics |= {name: sides.candidate, f"{name}_base": sides.candidate} | dict(sides.named(name))
        rows += text_items(language, scores)
    return metrics, rows


def _on_prompts(
    models: ComparedModels, languages: tuple[Language, ...], job: EvaluateJob
) -> tuple[Metrics, tuple[AnswerItem, ...]]:
    prompts = pinned_prompts(languages)
    ids = _prompt_ids(models, job, [(Message(role="user", content=prompt),) for prompt in prompts])
    answers = _answered(models, job, "answers", ids, job.generate_tokens)
    metrics: Metrics = dict(generation_metrics(prompts, answers))
    divergences = None
    if job.measures_drift and models.has_base:
        metrics |= changed_shares(answers)
        rows = answered_rows(ids, answers.candidate, models.tokenizer.eos_token_id)

        def drift(told: OnProgress) -> list[Divergence]:
            return answers_divergence(models.model, rows, models.step, told)

        divergences = models.under(CANDIDATE, "distance of answers", len(rows), drift)
        if divergences:
            metrics["answers_kl_to_base"] = answers_kl(divergences)
    return metrics, answer_items(prompts, answers, divergences)


def _on_safety(models: ComparedModels, languages: tuple[Language, ...], job: EvaluateJob) -> tuple[SafetyItem, ...]:
    """Prompts that should be refused, and harmless ones that look alike."""
    if not job.safety_tokens:
        return ()
    prompts = safety_prompts(languages)
    ids = _prompt_ids(models, job, [(Message(role="user", content=prompt.text),) for prompt in prompts])
    return safety_items(prompts, _answered(models, job, "safety", ids, job.safety_tokens))


def _on_held_out_prompts(
    models: ComparedModels, job: EvaluateJob, pairs: list[PreferencePair], rendered: list[TokenPair]
) -> tuple[ComparedAnswers, ...]:
    """Answers for a judge, to the first prompts in the order of their hashes: any of them, and always the same."""
    if not job.compared_prompts or not models.has_base:
        return ()
    by_prompt = {pair.prompt_hash: pair for pair in rendered}
    chosen = sorted(by_prompt)[: job.compared_prompts]
    texts = {pair.prompt_hash: pair.prompt for pair in pairs}
    ids = [by_prompt[prompt].prompt for prompt in chosen]
    answers = _answered(models, job, "held-out prompts", ids, job.compared_tokens)
    before = answers.candidate if answers.rival is None else answers.rival
    return tuple(
        ComparedAnswers(prompt=texts[prompt], candidate=now.text, incumbent=then.text)
        for prompt, now, then in zip(chosen, answers.candidate, before, strict=True)
    )


def _on_cases(models: ComparedModels, job: EvaluateJob) -> tuple[CaseReport, ...]:
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


def _prompt_ids(models: ComparedModels, job: EvaluateJob, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
    renderer = PairRenderer(models.tokenizer, _end_ids(models, job), job.max_length_tokens)
    return [renderer.prompt_ids(prompt) for prompt in prompts]


def _answered(
    models: ComparedModels, job: EvaluateJob, what: str, ids: list[list[int]], tokens: int
) -> Sides[list[Answer]]:
    """Greedy answers of every model."""

    def measure(told: OnProgress) -> list[Answer]:
        return write_answers(models.model, models.tokenizer, ids, _end_ids(models, job), tokens, told)

    return models.each(what, len(ids), measure)


def _end_ids(models: ComparedModels, job: EvaluateJob) -> frozenset[int]:
    return frozenset(end_token_ids(job.base_folder)) | {models.tokenizer.eos_token_id}


def _on_tasks(models: ComparedModels, sets: list[TaskSet], limit: int | None) -> tuple[Metrics, dict[str, TaskReport]]:
    metrics: Metrics = {}
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
