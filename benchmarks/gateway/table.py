"""A run as a Markdown page. Pure."""

from collections.abc import Mapping
from typing import Any

from benchmarks.gateway.goals import BASELINE, OURS, Rows, added, goals, median

HEADER = (
    "| gateway | CPU us/request | of it in workers | req/s (core busy) | added latency p50 / p99 ms | CPU us/chunk |"
    " added first chunk p50 / p99 ms | memory MB (largest worker) | answers | wrong |"
)
RULE = "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"


def markdown(run: Mapping[str, Any]) -> str:
    """Table, goal lines and what is needed to read them; `run` is what `record` wrote."""
    figures = run["figures"]
    rows: Rows = figures["rows"]
    parts = [
        f"# Gateways beside each other, {run['at']}",
        _machine(run),
        "\n".join([HEADER, RULE, *(_line(rows, name) for name in ordered(rows))]),
        _notes(figures),
        "## Goals",
        "\n".join(f"- {line}" for line in goal_lines(figures)) or "- the rows they need were not measured",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def goal_lines(figures: Mapping[str, Any]) -> list[str]:
    """One line a goal."""
    return [goal.line() for goal in goals(figures["rows"], figures["routers"])]


def ordered(rows: Rows) -> list[str]:
    """Names of the rows: the baseline, then the cheapest request first."""
    return sorted(rows, key=lambda name: (name != BASELINE, median(rows[name], "cpu_us_per_request")))


def _machine(run: Mapping[str, Any]) -> str:
    machine, plan = run["machine"], run["figures"]["plan"]
    processor = machine.get("processor_name") or machine["processor"]
    loads = [load for row in run["figures"]["rows"].values() for load in row["load_1_minute"]]
    return (
        f"{processor}, {machine['cores']} cores, Python {machine['python']}; "
        f"load of the machine when a row began: {min(loads):.1f} to {max(loads):.1f}. One run, medians of "
        f"{plan['rounds'] * plan['windows']} windows. Closed loop of {plan['connections']} connections; latency at "
        f"{plan['rate']:g} requests/s; {plan['streams']} streams of {plan['chunks']} chunks, {plan['pause_ms']:g} ms "
        "apart; unless noted. CPU is that of the gateway's whole process tree."
    )


def _line(rows: Rows, name: str) -> str:
    row = rows[name]
    shown = f"**{name}**" if name.startswith(OURS) else name
    cells = [
        shown,
        f"{median(row, 'cpu_us_per_request'):.0f}",
        f"{median(row, 'worker_cpu_us_per_request'):.0f}" if name.startswith(OURS) else "",
        f"{median(row, 'requests_per_second'):.0f} ({100 * median(row, 'core_busy'):.0f} %)",
        _delay(rows, name, "latency_ms"),
        f"{median(row, 'cpu_us_per_chunk'):.1f}",
        _delay(rows, name, "first_chunk_ms"),
        f"{row['rss_mb']:.0f}" + (f" ({max(row['worker_rss_mb']):.0f})" if name.startswith(OURS) else ""),
        str(row["answers"]),
        str(sum(row["wrong"].values())),
    ]
    return f"| {' | '.join(cells)} |"


def _delay(rows: Rows, name: str, figure: str) -> str:
    """What the gateway adds; in brackets, the whole, where there is nothing to subtract it from."""
    quantiles = ("p50", "p99")
    if name == BASELINE or BASELINE not in rows:
        return " / ".join(f"({median(rows[name], figure, quantile):.2f})" for quantile in quantiles)
    return " / ".join(f"{added(rows, name, figure, quantile):.2f}" for quantile in quantiles)


def _notes(figures: Mapping[str, Any]) -> str:
    lines = []
    for name in ordered(figures["rows"]):
        row, said = figures["rows"][name], []
        facts = row["facts"]
        if "version" in facts:
            said.append(f"{facts['version']}")
        if facts.get("note"):
            said.append(facts["note"])
        if facts.get("limits") is False:
            said.append("THE KEY HAD NO LIMITS")
        if "recorded" in facts:
            said.append(f"{facts['recorded']} records of {facts['asked']} answers in its database")
        if (database := median(row, "database_cpu_us_per_request")) > 0:
            said.append(f"the database server took {database:.0f} us/request more, on the other core")
        if row["rate"] < figures["plan"]["rate"]:
            said.append(f"could not keep up with the load: latency at {row['rate']:g} requests/s")
        if row["streams"] < figures["plan"]["streams"]:
            said.append(f"{row['streams']} streams at once")
        if row["without_usage"]:
            said.append(f"{row['without_usage']} streams lacked the usage that was asked for")
        lines += [f"- {name}: {'; '.join(said)}"] if said else []
        lines += [f"  - wrong {count} times: `{text}`" for text, count in row["wrong"].items()]
    lines += [f"- {name}: not measured, {why}" for name, why in figures["failed"].items()]
    return "\n".join(lines)
