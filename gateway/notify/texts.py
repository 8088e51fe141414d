"""What people read: what happened, where to look, and how to take it back. Pure."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.contracts.notice import TEST


@dataclass(frozen=True)
class Message:
    """A notification as it is sent."""

    id: str
    event: str
    alias: str
    facts: Mapping[str, Any]
    created_at: float
    times: int = 1
    """How often the same came about by now."""


def text_of(message: Message) -> str:
    """The text, a few lines."""
    lines = [f"[Alignway] {line}" if place == 0 else line for place, line in enumerate(_SAY[message.event](message))]
    if message.times > 1:
        lines.append(f"This came about {message.times} times.")
    if message.event != TEST:
        lines.append(f"To take back what `{message.alias}` serves now:")
        lines.append(rollback_command(message.alias, f"{message.event} {_about(message)}"))
    return "\n".join(lines)


def rollback_command(alias: str, reason: str) -> str:
    """The command line that gives an alias back to what it served before."""
    return f"alignway releases rollback --alias {shlex.quote(alias)} --reason {shlex.quote(reason)}"


def _about(message: Message) -> str:
    return next(
        str(message.facts[name])
        for name in ("feedback", "rollout", "release", "dataset", "run")
        if name in message.facts
    )


def _gate_failed(message: Message) -> list[str]:
    facts = message.facts
    why = "; ".join(f"{gate}: {reason}" for gate, reason in facts["gates"].items())
    return [
        f"Gate failed: release {facts['name']} of `{message.alias}` was rejected, and does not serve.",
        f"Why: {why}.",
        f"Look: alignway releases show {facts['name']}",
    ]


def _run_failed(message: Message) -> list[str]:
    run = message.facts["run"]
    return [
        f"Training run failed: {run} of `{message.alias}` made no release; what serves is unchanged.",
        f"Why: {message.facts['error'] or 'not said'}.",
        f"Look: GET /admin/v1/runs/{run}/events",
    ]


def _rollback(message: Message) -> list[str]:
    facts, alias = message.facts, message.alias
    what = {
        "begun": f"Rollback: `{alias}` goes back from {facts['left']} to {facts['back_to']}.",
        "done": f"Rolled back: `{alias}` could not go over to {facts['left']} and serves {facts['back_to']} again.",
        "stopped": f"Rollout stopped: `{alias}` did not go over to {facts['left']} and serves {facts['back_to']}.",
        "failed": f"A rollback failed: `{alias}` could not go back to {facts['left']} and serves {facts['back_to']}.",
    }[facts["what"]]
    reason = facts["reason"] or "no reason given"
    return [what, f"By {facts['actor']}: {reason}.", f"Look: GET /admin/v1/rollouts/{facts['rollout']}"]


def _alarm(message: Message) -> list[str]:
    facts = message.facts
    kinds = {
        "phrases": "phrases that mark one side",
        "bursts": "raters that voted in bursts",
        "one_rater_clusters": "raters who were alone in whole clusters of prompts",
    }
    found = ", ".join(f"{facts[name]} {words}" for name, words in kinds.items() if facts[name])
    return [
        f"Alarm: data set {facts['dataset']} of `{message.alias}` looks as if somebody steered the votes.",
        f"Found: {found}.",
        f"Look: alignway dataset show {facts['dataset']}",
    ]


def _harmful_vote(message: Message) -> list[str]:
    facts = message.facts
    wrote = ", ".join(facts["releases"]) or "a release that is not known"
    return [
        f"Harmful answer: a vote about `{message.alias}` was tagged {', '.join(facts['tags'])}.",
        f"The answer was written by {wrote}; the vote is {facts['feedback']}.",
        f"Look: alignway lineage {facts['feedback']}",
    ]


def _engine_hung(message: Message) -> list[str]:
    facts = message.facts
    return [
        f"Engine hung: {facts['replica']} of `{message.alias}` did nothing for {facts['silent_seconds']} s.",
        f"It is stopped and started again on what it is to serve; it held {facts['release']}.",
        "Look: GET /admin/v1/replicas",
    ]


def _test(message: Message) -> list[str]:
    return ["Test: this address is told of failed gates and runs, rollbacks, alarms, harmful answers and hung engines."]


_SAY: dict[str, Callable[[Message], list[str]]] = {
    "gate_failed": _gate_failed,
    "run_failed": _run_failed,
    "rollback": _rollback,
    "alarm": _alarm,
    "harmful_vote": _harmful_vote,
    "engine_hung": _engine_hung,
    TEST: _test,
}
