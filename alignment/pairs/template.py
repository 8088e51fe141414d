"""A model's chat template: conversations to text, as engines write it. Knows tokenizers, not models.

Thinking models write a thought between <think> and </think> before they answer. Some templates have a switch for it
(`enable_thinking`), some open the thought at the end of every prompt, most know nothing of it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.contracts.message import Message

_SWITCH = "enable_thinking"
_OPEN = re.compile(r"<think>\s*$")
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_CLOSED = "\n</think>\n\n"

Tools = Sequence[dict[str, Any]]


class Completion(NamedTuple):
    """What follows a prompt's text."""

    thought: str
    """Up to where the answer begins; empty if there is no thought."""
    answer: str


class ChatTemplate:
    """The template of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._has_switch = _SWITCH in str(tokenizer.chat_template)

    def prompt(self, messages: Sequence[Message], tools: Tools, thinking: bool) -> str:
        """What an engine conditions on when it answers."""
        return self._text([_shown(message) for message in messages], tools, thinking, generation_prompt=True)

    def completion(
        self, messages: Sequence[Message], side: Message, tools: Tools, thinking: bool, prompt: str
    ) -> Completion | None:
        """What the model would have written after `prompt`; None if the template does not show it."""
        if opens_thought(prompt):
            return Completion(((side.reasoning or "") if thinking else "") + _CLOSED, side.text)
        own = _shown(side) | ({"reasoning_content": side.reasoning} if thinking else {})
        full = self._text([*map(_shown, messages), own], tools, thinking, generation_prompt=False)
        if full.startswith(prompt):
            written = full[len(prompt) :]
            thought = _THOUGHT.match(written)
            return (
                Completion(written[: thought.end()], written[thought.end() :]) if thought else Completion("", written)
            )
        # Some templates rewrite history once it has an answer; the engine saw the prompt as it was before.
        return None if side.tool_calls else Completion("", side.text)

    def _text(self, messages: list[dict[str, Any]], tools: Tools, thinking: bool, generation_prompt: bool) -> str:
        switch = {_SWITCH: thinking} if self._has_switch else {}
        return str(
            self._tokenizer.apply_chat_template(
                messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=generation_prompt, **switch
            )
        )


def opens_thought(prompt: str) -> bool:
    """Whether the model must think before it answers, because the prompt's text has begun a thought."""
    return _OPEN.search(prompt) is not None


def _shown(message: Message) -> dict[str, Any]:
    """As engines hand a message to a template: arguments of tool calls as objects, not as JSON text."""
    shown = message.template_dict()
    if message.tool_calls:
        shown["tool_calls"] = [_with_object(call) for call in message.tool_calls]
    return shown


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
