"""A rollout as a table on the terminal."""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from gateway.commands.options import console


def print_rollout(found: dict[str, Any]) -> None:
    """Print where a rollout stands, its evidence and its steps."""
    for name in ("id", "alias", "kind", "strategy", "state", "candidate", "incumbent"):
        console.print(f"{name:10} {found[name]}")
    canary = found["canary"]
    if canary is not None:
        left = f"{canary['dwell_left_seconds']} s and {canary['dwell_left_requests']} requests left"
        console.print(f"{'share':10} {canary['share']:.0%}, {left}")
        console.print(f"{'next':10} {canary['next']}: {canary['reason']}", markup=False)
    else:
        console.print(f"{'detail':10} {found['detail'] or '-'}", markup=False)
    if found["evidence"]:
        _print_evidence(found["evidence"])
    table = Table("at", "from", "to", "by", "why")
    for step in found.get("steps", ()):
        at = f"{datetime.fromtimestamp(step['at'], UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(at, step["from"], step["to"], step["actor"], step["reason"])
    console.print(table)


def _print_evidence(evidence: dict[str, Any]) -> None:
    votes = evidence["votes"]
    told = f"{votes['wins']} of {votes['votes']} prefer the candidate, e-value {votes['e_value']:.3g}"
    console.print(f"{'votes':10} {told}: {votes['verdict']}")
    table = Table("signal", "", "figures")
    for signal in evidence["signals"]:
        table.add_row(signal["name"], "BAD" if signal["bad"] else "ok", signal["reason"])
    console.print(table)
