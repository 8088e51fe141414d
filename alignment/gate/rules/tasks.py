"""Gate 4: benchmarks, item by item. A subset that is too small to see a loss says so, and does not pass for proof."""

import math

from alignment.gate.rules.evidence import Evidence, TaskOutcome
from alignment.gate.rules.finding import Check, Good, points, result
from gateway.contracts.release import GateResult, Interval
from gateway.sections.gates import GateSettings

TASK_GATE = "benchmark"
_ONE_SIDED_95, _TWO_SIDED_95 = 1.6449, 1.95996
POWER_LIMIT = "power"
"""The limit that asks how wide the bound is: it says nothing of the model."""


def task_gates(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """A gate for each benchmark and each model it is compared with."""
    return [_gate(task, limits) for task in evidence.tasks]


def drop_bound(task: TaskOutcome) -> tuple[float, float]:
    """The upper one-sided 95 % bound on the drop of the share answered right, and how far it lies above the middle."""
    interval = drop_interval(task, _ONE_SIDED_95)
    return interval.high, (interval.high - interval.low) / 2


def drop_interval(task: TaskOutcome, z: float = _TWO_SIDED_95) -> Interval:
    """The drop with its interval of `z` standard errors.

    Adjusted Wald for paired shares: half an item is added to each of the four cells (Agresti and Min 2005), so that a
    few items without a difference do not prove that there is none.
    """
    items, drop = task.items + 2, task.lost - task.won
    centre = drop / items
    half = z * math.sqrt(task.won + task.lost + 1 - drop**2 / items) / items
    return Interval(value=drop / task.items, low=centre - half, high=centre + half)


def _gate(task: TaskOutcome, limits: GateSettings) -> GateResult:
    drop, (bound, half), most = drop_interval(task), drop_bound(task), limits.task_bound_block
    who = f"{task.name} against the {task.against}"
    told = f"{who}: {points(-drop.value)} on {task.items} items ({task.won} won, {task.lost} lost)"
    known = f"a drop is known to {100 * half:.1f} points only; it takes {_needed(task, half, most)}"
    checks = [
        Check("drop", "block", drop.value, limits.task_drop_block, "above", f"fell: {told}", drop),
        Check("drop", "warn", drop.value, limits.task_drop_warn, "above", f"fell: {told}", drop),
        Check(POWER_LIMIT, "warn", half, most, "above", f"power too low: {told}; {known}"),
    ]
    if half <= most:
        ruled_out = f"a drop of {100 * most:g} points is not ruled out: {told}; 95 % below {100 * bound:.1f} points"
        checks.append(Check("bound", "block", bound, most, "above", ruled_out))
    name = f"{TASK_GATE}_{task.name}" + ("_base" if task.against == "base" else "")
    return result(name, checks, Good(bound, most, told), drop, task.items)


def _needed(task: TaskOutcome, half: float, most: float) -> str:
    """Bounds narrow with the square root of the items."""
    return f"about {math.ceil(task.items * (half / most) ** 2)} items" if most else "more items"
