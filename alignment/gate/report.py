"""The report of a candidate's gates as files: for programs, for people, and as a picture. Written before the seal."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path

from alignment.card import table
from alignment.gate.items import AnswerItem
from alignment.gate.report_plot import plot_limits
from gateway.contracts.gate_report import (
    POWER,
    REPORT_FILE,
    REPORT_PAGE,
    REPORT_PLOT,
    Calibration,
    ChangedAnswer,
    GateReport,
)
from gateway.contracts.release import GateResult, Limit

SHOWN_ANSWERS = 10
_MAY = {
    "pass": "may serve.",
    "warn": "may serve if a person says why (`--reason`): gates warn.",
    "block": "may not serve: a gate blocks it.",
}


def write_report(folder: Path, report: GateReport) -> None:
    """The three files of a report."""
    (folder / REPORT_FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / REPORT_PAGE).write_text(report_page(report), encoding="utf-8")
    if any(gate.limits for gate in report.gates):
        plot_limits(report.gates, folder / REPORT_PLOT)


def changed_answers(answers: Sequence[AnswerItem], most: int = SHOWN_ANSWERS) -> list[ChangedAnswer]:
    """The answers that differ most from those of the model to beat, word by word; those that do not are left out."""
    found = []
    for answer in answers:
        other = answer.texts.get("incumbent", answer.texts.get("base"))
        if other is None or answer.texts["candidate"] == other:
            continue
        changed = changed_share(answer.texts["candidate"], other)
        found.append(
            ChangedAnswer(
                prompt=answer.prompt, candidate=answer.texts["candidate"], incumbent=other, changed_share=changed
            )
        )
    return sorted(found, key=lambda answer: -answer.changed_share)[:most]


def changed_share(one: str, other: str) -> float:
    """How much of the words of two texts differs: 1 minus Ratcliff and Obershelp's ratio; words part at white space."""
    words, others = one.split(), other.split()
    return 1 - SequenceMatcher(None, words, others, autojunk=False).ratio() if words or others else 0.0


def report_page(report: GateReport) -> str:
    """The report in Markdown."""
    return "\n\n".join(_sections(report)) + "\n"


def _sections(report: GateReport) -> Iterator[str]:
    yield f"# Gates of {report.name}"
    yield f"`{report.release}`, compared with `{report.compared_with or 'the base model'}`, {_MAY[report.verdict]}"
    yield table(("gate", "verdict", "n", "reason"), ((g.gate, g.verdict, g.n or "-", g.reason) for g in report.gates))
    yield "## Limits"
    yield _calibration_told(report.calibration)
    heads = ("gate", "limit", "level", "figure", "95 %", "wrong side", "crossed", "false alarms", "smallest effect")
    yield table(heads, (_row(gate, limit) for gate in report.gates for limit in gate.limits))
    yield f"![each figure beside its limit]({REPORT_PLOT})"
    yield "## Most changed answers"
    if not report.changed_answers:
        yield "No answer was written, or none reads otherwise than before."
    for number, answer in enumerate(report.changed_answers, start=1):
        yield f"### {number}. {100 * answer.changed_share:.0f} % of the words differ"
        yield f"Prompt:\n\n{_quoted(answer.prompt)}"
        yield f"Candidate:\n\n{_quoted(answer.candidate)}"
        yield f"Before:\n\n{_quoted(answer.incumbent)}"


def _calibration_told(calibration: Calibration | None) -> str:
    if calibration is None:
        return "How often a limit is crossed without a difference is not known: `alignway gates calibrate` finds out."
    return (
        f"False alarms: how often the limit was crossed in {calibration.draws} comparisons without a difference "
        f"({calibration.subject}; {calibration.holdout_pairs} held-out pairs). Smallest effect: what crosses it in "
        f"{100 * POWER:.0f} % of cases."
    )


def _row(gate: GateResult, limit: Limit) -> tuple[str, ...]:
    bounds = "-" if limit.low is None or limit.high is None else f"{limit.low:.4g} to {limit.high:.4g}"
    share = "-" if limit.false_alarm_share is None else f"{100 * limit.false_alarm_share:.1f} %"
    effect = "-" if limit.smallest_effect is None else f"{limit.smallest_effect:.4g}"
    side = f"{limit.side} {limit.limit:.4g}"
    crossed = "**yes**" if limit.crossed else "no"
    return gate.gate, limit.name, limit.level, f"{limit.value:.4g}", bounds, side, crossed, share, effect


def _quoted(text: str) -> str:
    """A text of a model as a quotation: whatever it says, it stays one."""
    return "\n".join(f"> {line}" for line in (text.strip() or "(nothing)").splitlines())
