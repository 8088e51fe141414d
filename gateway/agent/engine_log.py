"""The log of one engine: kept from growing without end, and quoted when the engine fails."""

import re
from pathlib import Path

MAX_BYTES = 32 << 20
TAIL_BYTES = 32 << 10
QUOTED_LINES = 3
QUOTED_CHARACTERS = 600
COMPLAINT = re.compile(r"error|exception|cannot|could not|failed|killed|no such|not found|no config", re.IGNORECASE)


class EngineLog:
    """A file that engine processes write to, one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began_at = 0

    def begin(self) -> None:
        """A new process is about to write; an overlong log makes room, the one before it is kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > MAX_BYTES:
            self.path.replace(self.path.with_suffix(".log.1"))
        self._began_at = self.path.stat().st_size if self.path.exists() else 0

    def complaint(self) -> str:
        """The last lines in which the present process complained, or else its last lines."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(self._began_at, size - TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        complaints = [line for line in lines if COMPLAINT.search(line)] or lines
        return " | ".join(complaints[-QUOTED_LINES:])[-QUOTED_CHARACTERS:]
