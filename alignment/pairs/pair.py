"""What training sees of preferences: whatever file or table they came from, only this goes on."""

from dataclasses import dataclass
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.contracts.prompt import prompt_hash


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """For one prompt, `chosen` was preferred to `rejected`."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    weight: float = 1.0
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def prompt_hash(self) -> str:
        """Equal for pairs about the same prompt; see `gateway/contracts/prompt.py`."""
        return prompt_hash(self.prompt, self.tools)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a prompt, with a thumb up or down; a demonstration has a thumb up."""

    id: str
    prompt: tuple[Message, ...]
    completion: Message
    is_desirable: bool
    weight: float = 1.0
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def prompt_hash(self) -> str:
        """Equal for answers to the same prompt; see `gateway/contracts/prompt.py`."""
        return prompt_hash(self.prompt, self.tools)


def from_feedback(pair: FeedbackPair) -> PreferencePair:
    """A pair derived from votes, without what training may not know: who judged, and where."""
    return PreferencePair(
        id=pair.id,
        prompt=pair.prompt,
        chosen=pair.chosen.message,
        rejected=pair.rejected.message,
        weight=pair.weight,
        tools=pair.tools,
    )
