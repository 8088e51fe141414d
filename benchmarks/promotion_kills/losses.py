"""Which broken answers a kill explains, and which are lost: a pure decision over what clients saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.swap.streams import Answer

Victim = Literal["gateway", "agent", "aligner", "engine"]
VICTIMS: tuple[Victim, ...] = ("gateway", "agent", "aligner", "engine")


@dataclass(frozen=True)
class Kill:
    """Who was killed, when the signal was sent, and when the process was gone (monotonic seconds)."""

    victim: Victim
    at: float
    gone_at: float


def explained(answer: Answer, kills: Sequence[Kill]) -> bool:
    """Whether a failed answer was in the process that was killed.

    A gateway worker takes its open connections with it, whatever was answered on them, but refuses nothing. An engine
    takes the answers that had begun; one that had not is asked again by the gateway. Agent and aligner hold none.
    """
    return any(_took(kill, answer) for kill in kills if answer.sent <= kill.gone_at and kill.at <= answer.ended)


def _took(kill: Kill, answer: Answer) -> bool:
    if kill.victim == "gateway":
        return not answer.refused
    return kill.victim == "engine" and answer.first is not None
