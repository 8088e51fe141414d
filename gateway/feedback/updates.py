"""What an update may change of a stored vote: what was said of the choices, and what was noted beside. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import BodyOnChoices, PairBatchBody, PairBody, parse_annotations, parse_body

ANNOTATIONS = frozenset({"tags", "comment", "metadata"})
VERDICT: Mapping[str, frozenset[str]] = {
    "preference": frozenset({"verdict", "chosen", "rejected", "choices", "shown", "strength"}),
    "ranking": frozenset({"ranking", "strength"}),
    "rating": frozenset({"value", "scale"}),
    "correction": frozenset({"message", "edit_kind"}),
}


@dataclass(frozen=True)
class Update:
    """A stored body as it will be, and what there is to derive anew from it."""

    body: dict[str, Any]
    verdict: BodyOnChoices | None
    """The whole vote, where its verdict is touched."""


def updated(type_: str, stored: Mapping[str, Any], changes: object) -> Update:
    """The stored body of a vote with `changes` laid over it; `null` takes a field out. Raises `InvalidRequest`.

    Of a preference the verdict is replaced as a whole: `{"verdict": "tie"}` is enough for one between two choices.
    """
    if not isinstance(changes, dict) or not changes:
        raise InvalidRequest("The body must be a JSON object with what is to change.", code="invalid_json")
    allowed = ANNOTATIONS | VERDICT.get(type_, frozenset())
    if unknown := sorted(changes.keys() - allowed):
        raise InvalidRequest(
            f"`{unknown[0]}` of a {type_} cannot be changed; what can: {', '.join(sorted(allowed))}. For other choices "
            "send a new vote.",
            param=unknown[0],
            code="unknown_parameter",
        )
    if changes.keys() <= ANNOTATIONS:
        return Update(_laid_over(stored, parse_annotations(changes)), None)
    base = {name: value for name, value in stored.items() if type_ != "preference" or name not in VERDICT[type_]}
    if type_ == "preference" and changes.get("verdict") in ("tie", "both_bad") and "choices" not in changes:
        changes = changes | {"choices": choices_of(stored)}
    body = parse_body(_laid_over(base, changes))
    if isinstance(body, PairBody | PairBatchBody):
        raise InvalidRequest("The sides of an imported pair cannot be changed.", code="invalid_value")
    return Update({}, body)


def choices_of(stored: Mapping[str, Any]) -> list[Any]:
    """The choices that a stored preference names, the chosen one first."""
    chosen = [stored["chosen"]] if stored.get("chosen") else []
    return [*chosen, *stored.get("rejected", ()), *stored.get("choices", ())]


def _laid_over(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**stored, **changes}.items() if value is not None}
