"""Redacts a pair: one thing has one placeholder in prompt, chosen and rejected, so redaction is never what tells the
sides apart. Pure."""

from collections import Counter
from collections.abc import Sequence

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.contracts.prompt import normal_text
from gateway.redaction.finding import Detector
from gateway.redaction.text import Redactor
from gateway.redaction.values import redact_value, reserve_all

SAME_WITHOUT_PERSONAL_DATA = "identical_after_redaction"
"""Why a pair is dropped whose sides differ in nothing but what was taken out."""


def redact_pair(pair: FeedbackPair, extra: Sequence[Detector] = ()) -> tuple[FeedbackPair, Counter[str]]:
    """The pair with placeholders, and how many things of each kind were taken out.

    Its prompt keeps its hash, and so its side of the split. `flaw_after_redaction` says whether it can still train.
    """
    redactor = Redactor(extra)
    messages = [*pair.prompt, pair.chosen.message, pair.rejected.message]
    dumped = [message.model_dump(exclude_none=True) for message in messages]
    reserve_all(dumped, redactor)
    redacted = [_redacted(message, redactor) for message in dumped]
    if not redactor.counts:
        return pair, redactor.counts
    sides = {
        "chosen": pair.chosen.model_copy(update={"message": redacted[-2]}),
        "rejected": pair.rejected.model_copy(update={"message": redacted[-1]}),
    }
    return pair.model_copy(update={"prompt": tuple(redacted[:-2]), **sides}), redactor.counts


def flaw_after_redaction(pair: FeedbackPair) -> str | None:
    """The reason why a redacted pair makes no training data, if there is one."""
    chosen, rejected = pair.chosen.message, pair.rejected.message
    calls = [[call.get("function", call) for call in message.tool_calls or ()] for message in (chosen, rejected)]
    same = normal_text(chosen.text) == normal_text(rejected.text) and calls[0] == calls[1]
    return SAME_WITHOUT_PERSONAL_DATA if same else None


def _redacted(dumped: dict[str, object], redactor: Redactor) -> Message:
    return Message.model_validate(redact_value(dumped, redactor))
