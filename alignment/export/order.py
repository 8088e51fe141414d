"""What the export environment is asked for and answers, and what an export tells. Light: loads no torch."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Scheme = Literal["w4a16", "gptq", "awq", "fp8"]
CALIBRATED: frozenset[Scheme] = frozenset({"gptq", "awq"})
"""Schemes that look at what flows through the model; the others look at its weights alone."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class QuantizeOrder(_Record):
    """Quantise the model of a folder into another; then measure what was written."""

    model: Path
    out: Path
    scheme: Scheme
    calibration: tuple[tuple[int, ...], ...]
    """Token ids, a row a sequence; empty for schemes that need none."""
    texts: tuple[tuple[int, ...], ...]
    """Token ids of the fixed texts that perplexity is measured on."""


class QuantizeReport(_Record):
    """What the export environment answers."""

    perplexity: float
    """Of the quantised model, loaded anew from its folder and decompressed to float32."""
    seconds: float
    versions: dict[str, str]
    """Of the packages that the files depend on."""


class ExportResult(_Record):
    """A model that was exported."""

    scheme: Scheme | Literal["none"]
    size_bytes: int
    perplexity_before: float | None = None
    """Of the model as it was, in float32; None if it was only copied."""
    perplexity_after: float | None = None
    calibration_sequences: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = {}

    @property
    def rise(self) -> float:
        """How much higher perplexity became, as a share of what it was; below 0 if it fell."""
        if self.perplexity_before is None or self.perplexity_after is None:
            return 0.0
        return self.perplexity_after / self.perplexity_before - 1
