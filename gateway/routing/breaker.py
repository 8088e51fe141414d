"""Circuits: a replica that fails again and again gets nothing, but for one trial now and then, until it works again.

A state machine per replica over a clock that is passed in; it knows no socket and no table.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

REST_SECONDS = 1.0
"""A replica that took no connection, or hung up, is left alone for this long: it fails fast, and would be spun on."""
LONGEST_OPEN_SECONDS = 20.0
"""However often the trial failed, the next one comes after this long: back within 30 s of an engine's recovery."""


class State(Enum):
    """What a circuit lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until the time for a trial."""
    HALF_OPEN = "half_open"
    """One trial is on its way; what becomes of it decides."""


@dataclass
class Circuit:
    """One replica that failed lately. A replica without one works as far as is known."""

    state: State = State.CLOSED
    failures: int = 0
    """In a row."""
    failed_at: float = 0.0
    rests_until: float = float("-inf")
    silent: bool = False
    """At the last failure nobody answered, or the connection broke in the middle of an answer."""
    opened_at: float = 0.0
    trial_at: float = 0.0
    """When the next trial may go."""
    open_seconds: float = 0.0
    """From one trial to the next; doubles each time one fails."""
    prompts: set[int] = field(default_factory=set)
    """What the requests asked that failed."""


class Breaker:
    """The circuits of all replicas that failed lately."""

    def __init__(
        self, max_failures: int = 5, open_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_failures, self._open_seconds, self._clock = max_failures, open_seconds, clock
        self._circuits: dict[str, Circuit] = {}

    def __bool__(self) -> bool:
        """Whether any replica failed lately: if none did, nothing needs to be asked."""
        return bool(self._circuits)

    def state(self, replica: str) -> State:
        """The state of a replica's circuit."""
        circuit = self._circuits.get(replica)
        return State.CLOSED if circuit is None else circuit.state

    def failed(self, replica: str, *, rest: bool, broke_off: bool = False, prompt: int | None = None) -> bool:
        """An attempt failed for a reason that lies in the engine; `rest`: nobody answered. True if this opened it.

        A `prompt` counts once however often it comes: it may be what the engine cannot bear, and nobody else's fault.
        """
        now = self._clock()
        circuit = self._circuits.setdefault(replica, Circuit())
        circuit.failed_at, circuit.silent = now, rest or broke_off
        if circuit.state is State.CLOSED and prompt not in circuit.prompts:
            circuit.failures += 1
            if prompt is not None:
                circuit.prompts.add(prompt)
        if rest:
            circuit.rests_until = now + REST_SECONDS
        match circuit.state:
            case State.CLOSED if circuit.failures >= self._max_failures:
                circuit.opened_at, circuit.open_seconds = now, self._open_seconds
            case State.HALF_OPEN:
                circuit.open_seconds = min(circuit.open_seconds * 2, LONGEST_OPEN_SECONDS)
            case _:
                return False
        opened = circuit.state is State.CLOSED
        circuit.state, circuit.trial_at = State.OPEN, now + circuit.open_seconds
        return opened

    def worked(self, replica: str) -> bool:
        """An attempt worked. True if this closed a circuit.

        While a circuit is open and no trial is out, what works was begun before the trouble and says nothing of now.
        """
        circuit = self._circuits.get(replica)
        if circuit is None or circuit.state is State.OPEN:
            return False
        del self._circuits[replica]
        return circuit.state is State.HALF_OPEN

    def forget(self, replica: str) -> None:
        """The engine is another one, or was started again: it begins with a clean record."""
        self._circuits.pop(replica, None)

    def try_trial(self, replica: str) -> bool:
        """Whether it is time for a trial; if so, the request at hand is it.

        A trial that never reported back is followed by another after the same time.
        """
        circuit = self._circuits.get(replica)
        if circuit is None or circuit.state is State.CLOSED or self._clock() < circuit.trial_at:
            return False
        circuit.state, circuit.trial_at = State.HALF_OPEN, self._clock() + circuit.open_seconds
        return True

    def passes(self, replica: str) -> bool:
        """Whether a replica takes requests: its circuit is closed, and it is not resting."""
        circuit = self._circuits.get(replica)
        return circuit is None or (circuit.state is State.CLOSED and self._clock() >= circuit.rests_until)

    def failed_lately(self, replica: str) -> bool:
        """Whether another replica is the better choice, if there is one."""
        circuit = self._circuits.get(replica)
        return circuit is not None and self._clock() < circuit.failed_at + REST_SECONDS

    def is_silent(self, replica: str) -> bool:
        """Whether it said nothing of what was wrong when it failed last: its process may be gone."""
        circuit = self._circuits.get(replica)
        return circuit is not None and circuit.silent

    def open_for(self, replica: str) -> float | None:
        """How long ago the circuit opened; None if it is closed."""
        circuit = self._circuits.get(replica)
        return None if circuit is None or circuit.state is State.CLOSED else self._clock() - circuit.opened_at

    def seconds_to_trial(self, replica: str) -> float:
        """When a client may try again with a chance."""
        circuit = self._circuits.get(replica)
        return 0.0 if circuit is None else max(0.0, circuit.trial_at - self._clock())
