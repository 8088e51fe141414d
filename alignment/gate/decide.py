"""May a candidate serve? Pure rules over what was measured; each answers with its figure, its limit and a reason."""

from collections.abc import Callable
from dataclasses import dataclass

from alignment.gate.rules.answers import artefact_gate, drift_gate
from alignment.gate.rules.cases import cases_gate
from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.judge import judge_gate
from alignment.gate.rules.look import look_gate
from alignment.gate.rules.preference import matched_gate, preference_base_gate, preference_gate, slices_gate
from alignment.gate.rules.safety import safety_gate
from alignment.gate.rules.tasks import task_gates
from alignment.gate.rules.texts import perplexity_gates
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings, Group


@dataclass(frozen=True, slots=True)
class _Rule:
    group: Group
    judge: Callable[[Evidence, GateSettings], list[GateResult]]


_RULES = (
    _Rule("artefact", artefact_gate),
    _Rule("preference", preference_gate),
    _Rule("preference", preference_base_gate),
    _Rule("preference", matched_gate),
    _Rule("preference", slices_gate),
    _Rule("drift", drift_gate),
    _Rule("perplexity", perplexity_gates),
    _Rule("tasks", task_gates),
    _Rule("judge", judge_gate),
    _Rule("safety", safety_gate),
    _Rule("cases", cases_gate),
    _Rule("look", look_gate),
)


def decide(evidence: Evidence, limits: GateSettings | None = None) -> tuple[GateResult, ...]:
    """The verdict of every gate that is asked, worst finding first within each."""
    limits = limits or GateSettings()
    return tuple(found for rule in _RULES if limits.has(rule.group) for found in rule.judge(evidence, limits))
