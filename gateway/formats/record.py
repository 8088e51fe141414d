"""What a row says once it is read, whichever shape it came in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gateway.contracts.message import Message
from gateway.contracts.pair import Basis, Origin


@dataclass(frozen=True, slots=True)
class RowPair:
    """For one prompt, `chosen` was preferred to `rejected`."""

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    tools: tuple[dict[str, Any], ...] = ()
    weight: float = 1.0
    id: str | None = None
    external_id: str | None = None
    """The id that the sender goes by: part of what makes two imported pairs the same."""
    source: str | None = None
    licence: str | None = None
    basis: Basis = "import"
    """Our own rows keep what they follow from: a judge's verdict does not become a person's by being moved."""
    fact: bool = False
    origins: tuple[Origin, Origin] = ("import", "import")
    """Who wrote the chosen and the rejected side."""
    judged_at: datetime | None = None
    """When it was preferred, where the row says so."""


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """One answer to a prompt, with a thumb up or down; a demonstration has a thumb up."""

    prompt: tuple[Message, ...]
    completion: Message
    is_desirable: bool
    tools: tuple[dict[str, Any], ...] = ()
    weight: float = 1.0
    id: str | None = None
    side: Literal["chosen", "rejected"] | None = None
    """Which side of a pair it was, if it was one."""
