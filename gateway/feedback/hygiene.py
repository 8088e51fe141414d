"""Which outputs teach nothing good: broken off, empty, filtered, cut off, of another assistant, or all the same. Pure.

Each rule has a name, which stands as `reason` beside the pair that it strikes out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.feedback.completions import LoggedChoice
from gateway.formats.flaws import flaw_of_outputs

TRUNCATED = "truncated_output"
FILTERED = "filtered_output"
FAILED = "failed_completion"
TASK = "task_call"
IDENTITY_LEAK = "identity_leak"

_SELF = (
    r"(?:\b(?:i\s+am|i['’]m|my\s+name\s+is|as)\s+"
    r"(?:(?:an?|the|ai|large|language|model|assistant|called|named)[\s,]+){0,6})"
)
_SELF_CHINESE = (
    r"(?:(?:我是|我叫|我的名字是|作为)"
    r"(?:一个|一名|一款|人工智能|大?语言|AI|智能|模型|助手|名为|叫做?|[\s，,“「])*)"
)
_MADE = (
    r"(?:\bi(?:\s+am|['’]m|\s+was|['’]ve\s+been|\s+have\s+been)\b[^.!?\n]{0,60}?"
    r"\b(?:made|created|developed|trained|built|designed)\s+by\s+)"
)
_MADE_CHINESE = r"(?:我[^。！？\n]{0,12}?由\s*)"
_MADE_CHINESE_AFTER = r"[^。！？\n]{0,8}?(?:开发|训练|研发|创造|打造|推出|制作)"


@dataclass(frozen=True)
class Strangers:
    """Recognises an answer that takes itself for the assistant of another maker, in English and Chinese."""

    identities: Sequence[str] = ()
    makers: Sequence[str] = ()
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the names once."""
        ways = []
        if self.identities:
            ways.append(f"(?:{_SELF}|{_SELF_CHINESE}){_one_of(self.identities)}")
        if self.makers:
            ways.append(f"{_MADE}{_one_of(self.makers)}")
            ways.append(f"{_MADE_CHINESE}{_one_of(self.makers)}{_MADE_CHINESE_AFTER}")
        object.__setattr__(self, "_pattern", re.compile("|".join(ways), re.IGNORECASE) if ways else None)

    def speak_in(self, text: str) -> bool:
        """Whether the text is said by one of them: `I am ChatGPT`, not `ChatGPT is a product` or `I am not ChatGPT`."""
        return self._pattern is not None and self._pattern.search(text) is not None


NOBODY = Strangers()


def flaw_of_comparison(chosen: LoggedChoice, rejected: LoggedChoice, strangers: Strangers = NOBODY) -> str | None:
    """The rule by which two answers of models make no pair."""
    if flaw := flaw_of_ending(chosen) or flaw_of_ending(rejected):
        return flaw
    if (chosen.finish_reason == "length") != (rejected.finish_reason == "length"):
        return TRUNCATED
    if any(strangers.speak_in(choice.side.message.text) for choice in (chosen, rejected)):
        return IDENTITY_LEAK
    return flaw_of_outputs(chosen.side.message, rejected.side.message)


def flaw_of_ending(choice: LoggedChoice) -> str | None:
    """The rule by which an answer that ended like this makes no pair."""
    if choice.prompt.is_task:
        return TASK
    if choice.status != "finished":
        return FAILED
    return FILTERED if choice.finish_reason == "content_filter" else None


def _one_of(names: Sequence[str]) -> str:
    """Any of the names, where it does not go on as another Latin word (`Claudette`)."""
    longest_first = sorted(names, key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, longest_first))})(?![A-Za-z0-9])"
