"""The states of a rollout and the steps between them: no other step exists. And how long an exchange pauses."""

from typing import Literal, cast, get_args

from gateway.contracts.backoff import pause_seconds
from gateway.errors import Conflict

RolloutKind = Literal["promote", "rollback"]
RolloutState = Literal["waiting", "canary", "promoting", "promoted", "rolled_back", "stopped"]

NEXT_STATES: dict[RolloutState, frozenset[RolloutState]] = {
    "waiting": frozenset({"canary", "stopped"}),
    "canary": frozenset({"promoting", "stopped"}),
    "promoting": frozenset({"promoted", "rolled_back"}),
    "promoted": frozenset(),
    "rolled_back": frozenset(),
    "stopped": frozenset(),
}
OPEN_STATES = tuple(state for state, following in NEXT_STATES.items() if following)
LONGEST_SWAP_PAUSE_SECONDS = 600.0


def check_step(from_state: str, to_state: str) -> None:
    """Raise `Conflict` unless `to_state` may follow `from_state`."""
    if from_state not in get_args(RolloutState) or to_state not in NEXT_STATES[cast(RolloutState, from_state)]:
        raise Conflict(f"A rollout cannot go from {from_state} to {to_state}.", code="invalid_rollout_step")


def swap_pause_seconds(first_seconds: float, put_offs: int) -> float:
    """How long to wait before an exchange of weights that was put off `put_offs` times before is tried again."""
    return pause_seconds(first_seconds, put_offs + 1, LONGEST_SWAP_PAUSE_SECONDS)
