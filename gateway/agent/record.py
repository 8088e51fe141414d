"""What an agent remembers of its engine on disk, so that the next agent can take the running engine over."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class EngineRecord:
    """One engine process. `loading` means that nobody knows what weights it has: it must not be taken over."""

    pid: int
    born_at: float
    """See `process.born`."""
    port: int
    release_id: str
    phase: Literal["loading", "serving"]
    adapters: tuple[str, ...]
    """Releases whose adapters it may hold: written before they are loaded."""
    settings_sha256: str
    """Digest of the settings it was started with: an engine with others is started anew."""


def read_record(path: Path) -> EngineRecord | None:
    """The record, if there is a readable one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return EngineRecord(**{**values, "adapters": tuple(values["adapters"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(path: Path, record: EngineRecord) -> None:
    """Replace the record in one step; a reader sees the old one or the new one."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(record)), encoding="utf-8")
    unfinished.replace(path)
