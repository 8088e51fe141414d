"""What a client is told of its feedback. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.storage.feedback_tables import Feedback, PairRow

_TARGET = ("prompt_hash", "alias", "release_ids")
"""In this order, whatever order the database keeps."""


def feedback_reply(feedback: Feedback, pairs: Sequence[PairRow]) -> dict[str, Any]:
    """A vote, what it is about, and what became of its pairs."""
    return {
        "id": feedback.id,
        "object": "feedback",
        "type": feedback.type,
        "status": feedback.status,
        "created_at": int(feedback.created_at),
        "updated_at": int(feedback.updated_at),
        "revision": feedback.revision,
        "rater": {"id_hash": feedback.rater_hash, "kind": feedback.rater_kind},
        "target": {name: feedback.target[name] for name in _TARGET if name in feedback.target},
        "pairs": [_pair_reply(pair) for pair in pairs],
    }


def list_reply(data: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """A page of objects, as the openai SDK turns pages."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def deleted_reply(feedback_id: str) -> dict[str, Any]:
    """A vote that was taken back."""
    return {"id": feedback_id, "object": "feedback.deleted", "deleted": True}


def _pair_reply(pair: PairRow) -> dict[str, Any]:
    reply = {"id": pair.id, "state": pair.state}
    return reply if pair.reason is None else reply | {"reason": pair.reason}
