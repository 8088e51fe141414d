"""What `alignway evaluate` shows to people: the figures as a table, and what they were measured on."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gateway.contracts.release import Interval

if TYPE_CHECKING:
    from alignment.jobs.contracts import EvaluateResult, MeasuredValue, TaskReport

_SHARE, _NATS, _SMALL, _PLAIN = ".1%", ".3f", ".5f", ".2f"
_ROWS = (
    ("holdout_accuracy", "prefers the chosen side", _SHARE),
    ("holdout_matched_accuracy", "  where both are of one length", _SHARE),
    ("holdout_margin", "margin, nats a token", _NATS),
    ("holdout_chosen_nll", "NLL of the chosen side, nats a token", _NATS),
    ("kl_to_base", "KL to the base, nats a token", _SMALL),
    ("perplexity", "perplexity, English", _PLAIN),
    ("perplexity_zh", "perplexity, Chinese", _PLAIN),
    ("generation_empty_share", "answers: empty", _SHARE),
    ("generation_ended_share", "answers: ended by themselves", _SHARE),
    ("generation_mean_tokens", "answers: mean length, tokens", _PLAIN),
    ("generation_repetition", "answers: repeated 4-token runs", _SHARE),
    ("generation_looping_share", "answers: going round in circles", _SHARE),
    ("generation_distinct_share", "answers: different ones", _SHARE),
)


def print_evaluation(result: "EvaluateResult", has_incumbent: bool) -> None:
    """The table, and below it what the figures do not say by themselves."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe has no edge to wrap at
    console.print(f"{result.pairs} pairs about {result.prompts} prompts, {result.matched_pairs} of one length")
    for reason, count in result.dropped.items():
        console.print(f"{count} pairs left out: {reason}")
    console.print(evaluation_table(result, has_incumbent))
    for name, report in result.tasks.items():
        for line in _about_task(name, report):
            console.print(line)


def evaluation_table(result: "EvaluateResult", has_incumbent: bool) -> Table:
    """A row for each figure; columns for those models that were measured."""
    metrics, has_base = result.metrics, "holdout_accuracy_base" in result.metrics or "kl_to_base" in result.metrics
    minus = f"; difference: candidate minus {'incumbent' if has_incumbent else 'base'}" if has_base else ""
    table = Table(title=f"95 % intervals{minus}", title_justify="left")
    table.add_column("")
    others = [who for who, is_there in (("incumbent", has_incumbent), ("base", has_base)) if is_there]
    for header in ("candidate" if has_base else "model", *others, *(["difference"] if has_base else [])):
        table.add_column(header, justify="right")
    tasks = tuple((f"task_{name}", f"{name}, answered right", _SHARE) for name in result.tasks)
    for name, label, unit in (*_ROWS, *tasks):
        if name in metrics:
            cells = [_cell(metrics.get(key), unit) for key in (name, *(f"{name}_{who}" for who in others))]
            table.add_row(label, *cells, *([_difference(metrics, name, unit)] if has_base else []))
    return table


def _cell(value: "MeasuredValue | None", unit: str, sign: str = "") -> str:
    if value is None:
        return ""
    if not isinstance(value, Interval):
        return f"{value:{sign}{unit}}"
    return f"{value.value:{sign}{unit}}  ({value.low:{sign}{unit}} to {value.high:{sign}{unit}})"


def _difference(metrics: "Mapping[str, MeasuredValue]", name: str, unit: str) -> str:
    """Candidate minus incumbent, or minus the base where there is none."""
    return _cell(metrics.get(f"{name}_difference"), unit, "+")


def _about_task(name: str, report: "TaskReport") -> Iterator[str]:
    yield f"{name}: {report.items} items of {report.subjects} subject{'' if report.subjects == 1 else 's'}"
    if report.missing:
        total = report.subjects + len(report.missing)
        yield f"  not the whole of it: {len(report.missing)} of {total} subjects have no files: {_some(report.missing)}"
    for who, test in (("incumbent", report.against_incumbent), ("base", report.against_base)):
        if test is not None:
            yield (
                f"  against the {who}: {test.won} items won, {test.lost} lost; p = {test.p_value:.3g} (exact sign test)"
            )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
