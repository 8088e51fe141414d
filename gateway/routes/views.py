"""Records as operators see them in JSON."""

from collections.abc import Sequence
from typing import Any

from gateway.rollout.canary import decide, dwell_left
from gateway.rollout.measuring import trial_of
from gateway.sections.canary import CanarySettings
from gateway.storage.audit import Audited
from gateway.storage.feedback_tables import Dataset, Run
from gateway.storage.tables import Alias, ReleaseRow, Replica, Rollout, RolloutStep


def alias_view(row: Alias) -> dict[str, Any]:
    """An alias and what it serves."""
    return {
        "id": row.name,
        "object": "alias",
        "task": row.task,
        "serving_release": row.serving_release_id,
        "base_release": row.base_release_id,
        "canary_release": row.canary_release_id,
        "canary_share": row.canary_share,
        "swap": row.swap,
        "auto_training_paused_reason": row.auto_training_paused_reason,
        "planned_run_left_out": row.schedule_remark,
        "created_at": int(row.created_at),
    }


def release_view(row: ReleaseRow) -> dict[str, Any]:
    """A release with its metrics and gates."""
    manifest = row.manifest
    return {
        "id": row.id,
        "object": "release",
        "name": row.name,
        "alias": row.alias,
        "kind": row.kind,
        "state": row.state,
        "parent": row.parent_id,
        "adapter_rank": row.adapter_rank,
        "method": manifest.get("method"),
        "dataset": manifest.get("dataset_id"),
        "run": manifest.get("run_id"),
        "metrics": manifest.get("metrics", {}),
        "gates": manifest.get("gates", []),
        "tainted": row.tainted,
        "blocked_by": row.blocked_by,
        "pinned": row.pinned,
        "pruned_at": None if row.pruned_at is None else int(row.pruned_at),
        "created_at": int(row.created_at),
    }


def rollout_view(row: Rollout, steps: Sequence[RolloutStep] = ()) -> dict[str, Any]:
    """A rollout, with its steps where they were asked for."""
    view = {
        "id": row.id,
        "object": "rollout",
        "alias": row.alias,
        "kind": row.kind,
        "state": row.state,
        "strategy": row.strategy,
        "candidate": row.candidate_id,
        "incumbent": row.incumbent_id,
        "detail": row.detail,
        "actor": row.actor,
        "reason": row.reason,
        "step": row.step,
        "share": row.canary_share,
        "step_began_at": row.step_began_at,
        "evidence": row.evidence,
        "created_at": int(row.created_at),
    }
    if steps:
        view["steps"] = [
            {
                "from": step.from_state,
                "to": step.to_state,
                "actor": step.actor,
                "reason": step.reason,
                "evidence": step.evidence,
                "at": step.at,
            }
            for step in steps
        ]
    return view


def canary_view(row: Rollout, candidate: ReleaseRow | None, rules: CanarySettings, now: float) -> dict[str, Any] | None:
    """Where a canary stands and what it waits for; None where no canary is on."""
    trial = trial_of(row, candidate)
    if trial is None or row.state != "canary":
        return None
    seconds, requests = dwell_left(trial, rules, now)
    decision = decide(trial, rules, now)
    return {
        "share": trial.share,
        "dwell_left_seconds": round(seconds),
        "dwell_left_requests": requests,
        "e_value": trial.votes.e_value,
        "verdict": trial.votes.verdict,
        "next": decision.action,
        "reason": decision.reason,
    }


def replica_view(row: Replica, in_flight: int) -> dict[str, Any]:
    """A replica: where it comes from, what it holds, what it should hold, and how many requests are at work there."""
    return {
        "id": row.id,
        "object": "replica",
        "alias": row.alias,
        "engine": row.engine,
        "url": row.url,
        "origin": row.origin,
        "model": row.weights_name,
        "phase": row.phase,
        "in_flight": in_flight,
        "weights_release": row.weights_release_id,
        "adapters": row.adapters,
        "desired_weights_release": row.desired_weights_id,
        "desired_adapters": row.desired_adapters,
        "swap_state": row.swap_state,
        "epoch": row.epoch,
        "restarts": row.restarts,
        "devices": row.devices,
        "lent_to": row.lent_to,
        "detail": row.detail,
    }


def run_view(row: Run) -> dict[str, Any]:
    """A training run."""
    return {
        "id": row.id,
        "object": "run",
        "alias": row.alias,
        "status": row.state,
        "trigger": row.trigger,
        "stage": row.stage,
        "progress": row.progress,
        "dataset_id": row.dataset_id,
        "release_id": row.release_id,
        "error": row.error,
        "options": row.options,
        "allow_downtime": row.allow_downtime,
        "effort": row.effort,
        "created_at": int(row.created_at),
        "started_at": None if row.started_at is None else int(row.started_at),
        "finished_at": None if row.finished_at is None else int(row.finished_at),
    }


def audit_view(entry: Audited) -> dict[str, Any]:
    """An entry of the audit: who did what to which record, and how it was before and after."""
    row = entry.row
    return {
        "id": row.id,
        "object": "audit.entry",
        "actor": row.actor,
        "actor_name": entry.actor_name,
        "action": row.action,
        "subject": row.subject,
        "before": row.detail["before"],
        "after": row.detail["after"],
        "created_at": row.at,
    }


def dataset_view(row: Dataset) -> dict[str, Any]:
    """A frozen data set, in short."""
    return {
        "id": row.id,
        "object": "dataset",
        "alias": row.alias,
        "created_at": int(row.created_at),
        "frozen_at": row.card["created_at"],
        "train_pairs": row.card["train"]["pairs"],
        "holdout_pairs": row.card["holdout"]["pairs"],
    }
