"""Things that people are told of at once, and what is said of each. Plain facts: ids, names and numbers, never a text
that a user or a model wrote."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NoticeEvent = Literal["gate_failed", "rollback", "alarm", "run_failed", "harmful_vote", "engine_hung"]
TEST = "test"
"""The event of a message that only tries a target out."""
REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Notice:
    """Something that came about."""

    event: NoticeEvent
    alias: str
    key: str
    """The same for what is to be told once."""
    facts: Mapping[str, Any]
    feedback_id: str | None = None
    repeat_seconds: float = field(default=float("inf"))
    """After so long the same is told again."""


def gate_failed(alias: str, release_id: str, name: str, run_id: str | None, gates: Mapping[str, str]) -> Notice:
    """A run ended in a release that its gates rejected; `gates`: those that did, and why."""
    facts = {"release": release_id, "name": name, "run": run_id, "gates": {g: shortened(r) for g, r in gates.items()}}
    return Notice("gate_failed", alias, f"gate_failed:{release_id}", facts)


def run_failed(alias: str, run_id: str, error: str | None) -> Notice:
    """A training run ended without a release."""
    return Notice("run_failed", alias, f"run_failed:{run_id}", {"run": run_id, "error": shortened(error or "")})


def rollback(
    alias: str, rollout_id: str, *, left: str, back_to: str, actor: str, reason: str, what: str = "begun"
) -> Notice:
    """What served, or was about to, is taken back. `what`: `begun` (asked for), `done`, `stopped` (before it served)
    or `failed` (a rollback that did not come about). `left` and `back_to` are names of releases."""
    facts = {"rollout": rollout_id, "left": left, "back_to": back_to, "actor": actor, "reason": shortened(reason)}
    return Notice("rollback", alias, f"rollback:{rollout_id}:{what}", facts | {"what": what})


def harmful_vote(alias: str, feedback_id: str, release_ids: list[str], tags: list[str]) -> Notice:
    """Somebody says that an answer does harm."""
    facts = {"feedback": feedback_id, "releases": release_ids, "tags": tags}
    return Notice("harmful_vote", alias, f"harmful_vote:{feedback_id}", facts, feedback_id)


def engine_hung(alias: str, replica_id: str, release_id: str, silent_seconds: int) -> Notice:
    """An engine ran and did nothing, and is started again. Told once an hour for each engine."""
    facts = {"replica": replica_id, "release": release_id, "silent_seconds": silent_seconds}
    return Notice("engine_hung", alias, f"engine_hung:{replica_id}", facts, repeat_seconds=3600.0)


def alarm(alias: str, dataset_id: str, alarms: Mapping[str, Any], repeat_seconds: float = 86_400.0) -> Notice | None:
    """The alarms of a data set's card; None where there are none. The same ones are told once a day."""
    phrases = sorted(str(one["phrase"]) for one in alarms.get("phrases", ()))
    named = {"phrases": phrases} | {name: sorted(alarms.get(name, ())) for name in ("bursts", "one_rater_clusters")}
    if not any(named.values()):
        return None
    digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]
    facts = {"dataset": dataset_id} | {name: len(found) for name, found in named.items()}
    return Notice("alarm", alias, f"alarm:{alias}:{digest}", facts, repeat_seconds=repeat_seconds)


def shortened(text: str) -> str:
    """At most a few lines' worth of a text, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= REASON_CHARACTERS else flat[: REASON_CHARACTERS - 1] + "…"
