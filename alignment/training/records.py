"""The metrics file of a run: one JSON line a step. Standard library only, so that reading one costs nothing."""

import json
from pathlib import Path

Metrics = dict[str, float]

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: Path) -> list[Metrics]:
    """The lines of a metrics file, in order of steps; empty if there is none."""
    return [json.loads(line) for line in _whole_lines(path)]


def drop_after(path: Path, step: int) -> None:
    """Take out the lines of later steps, which will be done anew, and a half line that a kill left."""
    kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
    rewritten = path.with_suffix(".part")
    rewritten.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    rewritten.replace(path)


def append(path: Path, metrics: Metrics) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """A process that was killed may leave half a line, without its line end."""
    if not path.is_file():
        return []
    return [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
