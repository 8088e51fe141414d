"""What a row of the table is asked to measure. Stands alone: it runs inside the environment of each trainer."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One measurement."""

    model: str
    pairs: str
    """JSON Lines of messages, chosen, rejected; every pair fits into `max_length` whole."""
    out: str
    folder: str
    """For what the trainer writes."""
    pairs_per_step: int
    max_length: int
    rank: int
    alpha: int
    lambda_: float
    learning_rate: float
    device: str
    dtype: str
    threads: int
    options: dict[str, Any] = field(default_factory=dict)
    """Of this row alone."""

    def rows(self) -> list[dict[str, Any]]:
        """The pairs."""
        return [json.loads(line) for line in Path(self.pairs).read_text(encoding="utf-8").splitlines()]
