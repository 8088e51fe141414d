"""A recorded run as Markdown: a table for each set of pairs, and the goals met or missed. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]

OURS, PEER = "alignway", "trl"
# name, figure, goal: how many times TRL (at least), or which share of TRL's (at most)
GOALS = (("step", "steps", 2.3), ("peak memory", "peak_mib", 0.45), ("evaluation", "evaluation_seconds", 2.5))


def table(run: Mapping[str, Any]) -> str:
    """The whole document."""
    figures, machine = run["figures"], run["machine"]
    lines = [
        f"# ORPO trainers beside each other, {run['at'][:16].replace('T', ' ')} UTC",
        f"{figures['model']}, {figures['dtype']}, {figures['device']}, LoRA r=16 on all linear layers; "
        f"{machine['cores']} cores ({machine['processor_name']}), torch {machine['packages'].get('torch', '')}.",
    ]
    for name, measured in figures["sets"].items():
        lines += [f"## {name}", _about(measured), "\n".join(_table(measured)), "\n".join(goals(measured))]
    return "\n\n".join(line for line in lines if line) + "\n"


def goals(measured: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each goal that both rows allow to judge."""
    ours, peer = (measured["rows"].get(name, {}) for name in (OURS, PEER))
    for title, figure, goal in GOALS:
        mine, theirs = value(ours, figure), value(peer, figure)
        if not mine or not theirs:
            continue
        is_share = goal < 1
        ratio = mine / theirs if is_share else theirs / mine
        met = ratio <= goal if is_share else ratio >= goal
        sign = "<=" if is_share else ">="
        yield f"- {title}: {ratio:.2f}x TRL (goal {sign} {goal}x): {'met' if met else '**missed**'}"


def value(row: Row, figure: str) -> float:
    """Seconds of a steady step, or another figure; 0 where it was not measured."""
    if figure == "steps":
        steady = row.get("step_seconds", [])[1:]
        return sum(steady) / len(steady) if steady else 0.0
    return float(row.get(figure, 0.0))


def _about(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['pairs']} pairs, {measured['pairs_per_step']} a step, {measured['tokens']:,} tokens "
        f"({measured['tokens_prompt_once']:,} with each prompt once). "
        f"Floor: {measured['floor_seconds_per_step']:.2f} s a step, the least arithmetic at the matrix peak of "
        f"{measured['matmul_peak_flops'] / 1e9:,.0f} GFLOP/s."
    )


def _table(measured: Mapping[str, Any]) -> Iterator[str]:
    yield "| trainer | s/step | against TRL | tokens/s | share of matrix peak | peak MiB | evaluation s |"
    yield "|---|---|---|---|---|---|---|"
    peer = value(measured["rows"].get(PEER, {}), "steps")
    steps = measured["pairs"] / measured["pairs_per_step"]
    for name, row in measured["rows"].items():
        if "failed" in row:
            yield f"| {name} | failed | | | | | |"
            continue
        seconds, evaluation = value(row, "steps"), value(row, "evaluation_seconds")
        yield (
            f"| {name} | {seconds:.2f} | {f'{peer / seconds:.2f}x' if peer else ''} "
            f"| {measured['tokens'] / steps / seconds:,.0f} | {measured['floor_seconds_per_step'] / seconds:.0%} "
            f"| {row['peak_mib']:,.0f} | {f'{evaluation:.1f}' if evaluation else ''} |"
        )
