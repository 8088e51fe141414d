"""What annotators and operators are told. Gold and repeats look like every other task. Pure."""

from typing import Any

from gateway.annotation.items import masked
from gateway.annotation.order import allowed_verdicts, asks
from gateway.annotation.texts import Texts, shown_answer, shown_prompt
from gateway.storage.annotation_tables import AnnotationGold, AnnotationTask, AnnotationVerdict


def task_view(task: AnnotationTask, texts: Texts, guideline: str) -> dict[str, Any]:
    """A task for its holder."""
    left, right = (texts.first, texts.second) if task.left_first else (texts.second, texts.first)
    return {
        "id": task.id,
        "object": "annotation.task",
        "asks": asks(task.purpose),
        "alias": task.alias,
        "prompt": shown_prompt(texts.prompt),
        "tools": list(texts.tools),
        "left": shown_answer(left),
        "right": shown_answer(right),
        "guideline": guideline,
        "verdicts": list(allowed_verdicts(task.purpose)),
        "lease_expires_at": int(task.lease_expires_at or 0),
    }


def lease_view(task: AnnotationTask) -> dict[str, Any]:
    """The lease of a task."""
    return {
        "id": task.id,
        "object": "annotation.lease",
        "lease_expires_at": None if task.holder is None else int(task.lease_expires_at or 0),
    }


def verdict_view(verdict: AnnotationVerdict) -> dict[str, Any]:
    """A verdict for whoever gave it, in the terms of what he or she saw."""
    return {
        "id": verdict.id,
        "object": "annotation.verdict",
        "task_id": verdict.task_id,
        "verdict": masked(verdict.verdict, verdict.left_first),
        "created_at": int(verdict.at),
    }


def gold_view(gold: AnnotationGold) -> dict[str, Any]:
    """A gold item for operators."""
    better, worse = gold.sides if gold.better == "first" else reversed(gold.sides)
    return {
        "id": gold.id,
        "object": "annotation.gold",
        "alias": gold.alias,
        "better": better,
        "worse": worse,
        "note": gold.note,
        "created_at": int(gold.created_at),
        "retired_at": None if gold.retired_at is None else int(gold.retired_at),
    }
