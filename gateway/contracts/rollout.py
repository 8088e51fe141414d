"""The states of a rollout and the steps between them. No other step exists."""

from typing import Literal, cast, get_args

from gateway.errors import Conflict

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


def check_step(from_state: str, to_state: str) -> None:
    """Raise `Conflict` unless `to_state` may follow `from_state`."""
    if from_state not in get_args(RolloutState) or to_state not in NEXT_STATES[cast(RolloutState, from_state)]:
        raise Conflict(f"A rollout cannot go from {from_state} to {to_state}.", code="invalid_rollout_step")
