"""A stored pair as the JSON it is, read as far as a data set looks at it: checked models of a million pairs would take
minutes. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.contracts.message import content_text
from gateway.contracts.pair import FeedbackPair
from gateway.datasets.bias import Texts

Body = dict[str, Any]
"""A `FeedbackPair` as JSON has it, without what is None."""
read_body = msgspec.json.Decoder(Body).decode
split_bodies = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""The JSON of each of many pairs by its id: all of them read at once would not fit into caches."""


class Turn(msgspec.Struct):
    """A message as near-duplicates are looked for."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return content_text(self.content)


def turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The messages of a prompt."""
    return msgspec.convert(messages, list[Turn])


def body_of(pair: FeedbackPair) -> Body:
    """The pair as it would be stored."""
    return pair.model_dump(mode="json", exclude_none=True)


def said(message: Mapping[str, Any]) -> str:
    """The text of a message."""
    return content_text(message.get("content"))


def texts_of(body: Body) -> Texts:
    """The two sides as the reports on bias look at them."""
    chosen, rejected = (said(body[side]["message"]) for side in ("chosen", "rejected"))
    return Texts(chosen, rejected, body.get("basis") == "correction")
