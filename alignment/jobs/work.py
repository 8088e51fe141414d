"""The heavy jobs themselves, each a function of its record. Run in the training process, or by the command line."""

import contextlib
from collections.abc import Sequence
from typing import Any

from alignment.adapter.merge import adapter_rank, merge_adapter
from alignment.files import folder_bytes
from alignment.gate.evaluate import (
    HoldoutDifference,
    HoldoutMetrics,
    PairScore,
    compare,
    perplexity,
    perplexity_texts,
    score_pairs,
    summarise,
)
from alignment.jobs.contracts import (
    EvaluateJob,
    EvaluateResult,
    MeasuredValue,
    MergeJob,
    MergeResult,
)
from alignment.models import load_adapted, load_renderer, load_tokenizer, pad_id, training_device
from alignment.pairs.read import read_pairs
from alignment.pairs.render import Rendered

_CANDIDATE, _INCUMBENT = "default", "incumbent"


def evaluate(job: EvaluateJob) -> EvaluateResult:
    """Measure candidate, incumbent and base with one copy of the base's weights in memory."""
    model = load_adapted(job.base_folder, job.candidate).to(training_device("auto"))
    if job.incumbent is not None and job.candidate is not None:
        model.load_adapter(str(job.incumbent), _INCUMBENT)
    tokenizer = load_tokenizer(job.base_folder)
    rendered = _rendered(job)
    scores = {who: _scores(model, who, rendered, tokenizer) for who in _measured(job)}
    texts = perplexity_texts()
    metrics: dict[str, MeasuredValue] = {}
    if rendered.pairs:
        metrics |= _holdout_metrics(scores[_CANDIDATE], scores.get(_INCUMBENT))
    with _as(model, _CANDIDATE):
        metrics["perplexity"] = perplexity(model, tokenizer, texts)
    with _as(model, "base"):
        metrics["perplexity_base"] = perplexity(model, tokenizer, texts) if job.candidate else metrics["perplexity"]
    prompts = {pair.prompt_hash for pair in rendered.pairs}
    return EvaluateResult(metrics=metrics, pairs=len(rendered.pairs), prompts=len(prompts), dropped=rendered.dropped)


def merge(job: MergeJob) -> MergeResult:
    """Write the merged model, checked against base plus adapter."""
    rank = adapter_rank(job.adapter)
    check = merge_adapter(job.base_folder, job.adapter, job.merged_folder)
    return MergeResult(rank=rank, size_bytes=folder_bytes(job.merged_folder), check=check)


def _rendered(job: EvaluateJob) -> Rendered:
    if job.pairs_file is None:
        return Rendered([], {})
    return load_renderer(job.base_folder, job.max_length_tokens).render_all(read_pairs(job.pairs_file))


def _measured(job: EvaluateJob) -> Sequence[str]:
    return (_CANDIDATE,) if job.candidate is None else (_CANDIDATE, _INCUMBENT)


def _scores(model: Any, who: str, rendered: Rendered, tokenizer: Any) -> list[PairScore]:
    with _as(model, who):
        return score_pairs(model, rendered.pairs, pad_id(tokenizer))


@contextlib.contextmanager
def _as(model: Any, who: str) -> Any:
    """The model as candidate, as incumbent, or as the base: by switching adapters, not by loading anew."""
    adapters = getattr(model, "peft_config", {})
    if who in adapters:
        model.set_adapter(who)
        yield
    elif adapters:
        with model.disable_adapter():
            yield
    else:
        yield


def _holdout_metrics(candidate: Sequence[PairScore], incumbent: Sequence[PairScore] | None) -> dict[str, MeasuredValue]:
    metrics = _named(summarise(candidate), "")
    if incumbent is not None:
        metrics |= _named(summarise(incumbent), "_incumbent") | _named(compare(candidate, incumbent), "_difference")
    return metrics


def _named(measured: HoldoutMetrics | HoldoutDifference, suffix: str) -> dict[str, MeasuredValue]:
    return {
        f"holdout_accuracy{suffix}": measured.accuracy,
        f"holdout_margin{suffix}": measured.margin,
        f"holdout_chosen_nll{suffix}": measured.chosen_nll,
    }
