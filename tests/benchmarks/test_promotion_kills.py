"""A kill explains the answers that died with the process, and no other: else the proof would prove nothing."""

import pytest

from benchmarks.promotion_kills.losses import Kill, explained
from benchmarks.swap.streams import Answer

ENGINE, GATEWAY, AGENT, ALIGNER = (
    Kill(victim, 10.0, 10.2)
    for victim in ("engine", "gateway", "agent", "aligner")  # type: ignore[arg-type]
)


def answer(sent: float, ended: float, first: float | None = None, refused: bool = False) -> Answer:
    return Answer(sent, first, ended, failure="broken", refused=refused)


@pytest.mark.parametrize(
    ("kill", "broken", "is_explained"),
    [
        (ENGINE, answer(9.0, 10.5, first=9.5), True),
        (ENGINE, answer(9.0, 10.5), False),  # nothing was answered yet: the gateway should have asked again
        (GATEWAY, answer(9.0, 10.5), True),
        (GATEWAY, answer(10.1, 10.3), True),  # accepted by a process that was dying
        (GATEWAY, answer(9.0, 10.5, refused=True), False),
        (GATEWAY, answer(10.3, 10.4), False),  # sent when it was gone: another worker should have had it
        (GATEWAY, answer(9.0, 9.9), False),  # ended before
        (AGENT, answer(9.0, 10.5, first=9.5), False),
        (ALIGNER, answer(9.0, 10.5, first=9.5), False),
    ],
)
def test_a_kill_explains_what_died_with_the_process_alone(kill: Kill, broken: Answer, is_explained: bool) -> None:
    assert explained(broken, [kill]) is is_explained
