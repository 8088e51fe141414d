"""From the figures of a measurement to what the gates look at."""

from alignment.gate.rules.evidence import Answers, CaseOutcome, Drift, Evidence, Perplexity
from alignment.jobs.contracts import EvaluateResult
from gateway.contracts.release import Interval


def evidence_of(measured: EvaluateResult) -> Evidence:
    """What the gates look at."""
    return Evidence(
        holdout_pairs=measured.pairs,
        accuracy=_interval(measured, "holdout_accuracy"),
        accuracy_difference=_interval(measured, "holdout_accuracy_difference"),
        accuracy_difference_base=_interval(measured, "holdout_accuracy_difference_base"),
        margin_difference=_interval(measured, "holdout_margin_difference"),
        matched_pairs=measured.matched_pairs,
        matched_difference=_interval(measured, "holdout_matched_accuracy_difference"),
        perplexity=tuple(_perplexity(measured, language) for language in measured.languages),
        answers=_answers(measured),
        drift=_drift(measured),
        cases=tuple(CaseOutcome(one.id, one.severity, one.failures, one.failures_before) for one in measured.cases),
    )


def _perplexity(measured: EvaluateResult, language: str) -> Perplexity:
    name = "perplexity" if language == "en" else f"perplexity_{language}"
    base = _value(measured, f"{name}_base")
    incumbent = _value(measured, f"{name}_incumbent") if f"{name}_incumbent" in measured.metrics else base
    return Perplexity(language, _value(measured, name), base, incumbent)


def _answers(measured: EvaluateResult) -> Answers | None:
    if "generation_empty_share_base" not in measured.metrics:
        return None
    ended, ended_base, repetition, repetition_base, length, length_base = (
        _value(measured, f"generation_{figure}{of}")
        for figure in ("ended_share", "repetition", "mean_tokens")
        for of in ("", "_base")
    )
    empty = round(_value(measured, "generation_empty_share") * measured.answers)
    return Answers(
        measured.answers, empty, ended, ended_base, repetition, repetition_base, length, length_base
    )  # fmt: skip


def _drift(measured: EvaluateResult) -> Drift | None:
    kl = _interval(measured, "answers_kl_to_base")
    if kl is None:
        return None
    names = {"the incumbent": "answers_changed_incumbent", "the base": "answers_changed_base"}
    return Drift(measured.answers, kl, {who: _value(measured, name) for who, name in names.items()})


def _interval(measured: EvaluateResult, name: str) -> Interval | None:
    found = measured.metrics.get(name)
    return found if isinstance(found, Interval) else None


def _value(measured: EvaluateResult, name: str) -> float:
    found = measured.metrics[name]
    return found if isinstance(found, float) else found.value
