"""The model card of a release: lineage, data, metrics, gates and versions, in Markdown. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.contracts.release import Interval, Release


def model_card(release: Release, facts: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The whole card. `facts` are shown by name: a mapping as JSON, a sequence as a list, anything else as it is."""
    verdict = "may serve" if not release.blocked_by else "may not serve: a gate blocks it"
    sections = [
        f"---\nbase_model: {release.base.model}\nlibrary_name: peft\ntags: [alignway, {release.method}, lora]\n---",
        f"# {release.name}\n\nRelease `{release.id}` of `{release.alias}`, which {verdict}. "
        f"Made {release.created_at.isoformat(timespec='seconds')} with {release.method.upper()}.",
        "## Lineage\n\n" + table(("what", "which"), _lineage(release)),
        "## Gates\n\n" + table(("gate", "verdict", "reason"), ((g.gate, g.verdict, g.reason) for g in release.gates)),
        "## Metrics\n\n" + table(("metric", "value"), described(release.metrics)),
        *(f"## {name}\n\n{_fact(value)}" for name, value in facts.items()),
        "## Made with\n\n" + table(("package", "version"), versions.items()),
        "![training curves](training.png)\n\nMore of the gates: `gates.md`, `gates.json`, `gates.png`.",
    ]
    return "\n\n".join(sections) + "\n"


def _lineage(release: Release) -> list[tuple[str, str]]:
    base = f"{release.base.model}, revision {release.base.revision}, weights {release.base.weights_sha256}"
    return [
        ("base model", base),
        ("compared with", release.parent_id or "the base model"),
        ("data set", release.dataset_id or "none on record"),
        ("run", release.run_id or "none on record"),
        ("adapter", f"LoRA of rank {release.adapter_rank}"),
    ]


def table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def described(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metrics in order of their names, as people read them."""
    return [(name, _shown(value)) for name, value in sorted(metrics.items())]


def _shown(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
        value = Interval.model_validate(value)
    if isinstance(value, Interval):
        return f"{value.value:.4f} (95 %: {value.low:.4f} to {value.high:.4f})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "```json\n" + json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n```"
    if isinstance(value, list | tuple):
        return "\n".join(f"- {item}" for item in value)
    return str(value)
