"""How often each limit is crossed where there is no difference, and how small an effect it sees. Pure.

The false alarms of a limit are the draws that cross it. Its smallest effect is the shift of the figure that makes four
of five draws cross it: an effect is taken to move a figure without changing how it scatters.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alignment.gate.decide import decide
from alignment.gate.items import Items
from alignment.gate.measured import evidence_of_items
from alignment.gate.rules.preference import CHANCE_LIMIT, PAIRS_LIMIT
from gateway.contracts.gate_report import POWER, LimitNoise
from gateway.contracts.release import GateResult, Limit
from gateway.sections.gates import GateSettings

OnDraw = Callable[[int], None]


def noise(
    comparisons: Sequence[Items], limits: GateSettings, draws: int, seed: int = 0, on_draw: OnDraw = lambda _: None
) -> tuple[LimitNoise, ...]:
    """Draws from comparisons of models, each as likely; the same seed gives the same figures."""
    random = np.random.default_rng(seed)

    def drawn() -> Iterable[Sequence[GateResult]]:
        for number in range(draws):
            items = comparisons[int(random.integers(len(comparisons)))]
            yield decide(evidence_of_items(items, random=random), limits)
            on_draw(number + 1)

    return noise_of(drawn(), draws)


def noise_of(results: Iterable[Sequence[GateResult]], draws: int) -> tuple[LimitNoise, ...]:
    """What the verdicts on so many comparisons without a difference say of every limit that was asked in any."""
    asked: dict[tuple[str, str, str], list[Limit]] = {}
    for gates in results:
        for gate in gates:
            for limit in gate.limits:
                asked.setdefault((gate.gate, limit.name, limit.level), []).append(limit)
    return tuple(
        LimitNoise(
            gate=gate,
            name=name,
            level=found[0].level,
            false_alarm_share=sum(limit.crossed for limit in found) / draws,
            smallest_effect=None if name in (PAIRS_LIMIT, CHANCE_LIMIT) else _smallest_effect(found),
        )
        for (gate, name, _), found in asked.items()
    )


def _smallest_effect(found: Sequence[Limit]) -> float:
    slack = [limit.limit - limit.value if limit.side == "above" else limit.value - limit.limit for limit in found]
    return max(0.0, float(np.quantile(slack, POWER)))
