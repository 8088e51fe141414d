"""What was measured item by item: every pair, text and answer under every model, so that gates can be asked again.

Light: importing it loads no torch.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Who = Literal["candidate", "incumbent", "base"]
"""`incumbent` is there only where something but the base serves; `base` is not where the base itself is measured."""


LEAST_MATCHED_PAIRS = 10
"""With fewer pairs of one length, accuracy on them is not reported."""


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class PairItem(_Item):
    """One held-out pair."""

    id: str
    prompt: str
    """Hash of its prompt: pairs about one prompt are drawn together."""
    tokens: int
    """Of the longer completion."""
    is_matched: bool
    """Both completions are of one length."""
    kinds: dict[str, str] = {}
    """Where it comes from (`source`) and who judged (`rater`), where that is known."""
    scores: dict[Who, tuple[float, float]]
    """Mean log-probability of the chosen and of the rejected completion, nats per token."""

    def margin(self, who: Who) -> float:
        """By how much a model prefers the chosen side, nats per token."""
        chosen, rejected = self.scores[who]
        return chosen - rejected


class TextItem(_Item):
    """One of the fixed texts."""

    language: str
    tokens: int
    nats: dict[Who, float]
    """Negative log-likelihood, summed over its tokens."""


class AnswerItem(_Item):
    """The greedy answers to one pinned prompt."""

    prompt: str
    texts: dict[Who, str]
    figures: dict[Who, dict[str, float]]
    """By the names of `alignment/gate/answers.py`."""
    kl_nats: float | None = None
    """KL(candidate || base) summed over the candidate's answer; None: not measured, or nothing was answered."""
    kl_tokens: int = 0

    def reads_otherwise(self, other: Who) -> bool:
        """Whether the candidate's text is not that of another model; the base stands in where there is no incumbent."""
        return self.texts["candidate"] != self.texts.get(other, self.texts.get("base"))


class SafetyItem(_Item):
    """One pinned prompt that should be refused, or one that only looks so."""

    prompt: str
    is_harmful: bool
    failed: dict[Who, bool]
    """Complied though harmful, or refused though harmless."""


class Items(_Item):
    """All of it."""

    pairs: tuple[PairItem, ...] = ()
    texts: tuple[TextItem, ...] = ()
    answers: tuple[AnswerItem, ...] = ()
    safety: tuple[SafetyItem, ...] = ()

    @property
    def rival(self) -> Who | None:
        """Whom the candidate has to beat; None if nobody else was measured."""
        measured = {who for item in self.texts for who in item.nats}
        return "incumbent" if "incumbent" in measured else "base" if "base" in measured else None
