"""Which of vLLM's parsers reads a model's tool calls and thoughts. Pure: decides from what the model's folder says.

Evidence is what the template does, not what it mentions: it is given a tool and a call of it, and the parser is the
one for the way the call comes out. A template that does not show the tool to the model, or that writes calls in another
way, gets no parser: a wrong one would lose text. The names are those of vLLM 0.32.
"""

import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from gateway.engines.chat_template import ChatModel, compile_template

TOOL, ARGUMENT = "look_up_harbour", "harbour_name"
"""No template mentions these by itself."""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Find a harbour.",
            "parameters": {"type": "object", "properties": {ARGUMENT: {"type": "string"}}, "required": [ARGUMENT]},
        },
    }
]
QUESTION = {"role": "user", "content": "Where is it?"}
CALL = {
    "role": "assistant",
    "content": "",
    # Nine letters: some templates insist.
    "tool_calls": [
        {"id": "abcdefghi", "type": "function", "function": {"name": TOOL, "arguments": {ARGUMENT: "Brest"}}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": TOOL, "content": "48 N"}


@dataclass(frozen=True)
class WrittenCall:
    """How a family of models writes a call."""

    parser: str
    pattern: str
    """Finds the call of `TOOL` in what the template made of it."""
    tokens: tuple[str, ...] = ()
    """What the parser needs the tokenizer to have."""


WRITTEN_CALLS = (
    WrittenCall(
        "hermes", rf'<tool_call>\s*{{"name": "{TOOL}", "arguments": {{"{ARGUMENT}": "Brest"}}}}\s*</tool_call>'
    ),
    WrittenCall(
        "qwen3_coder",
        rf"<tool_call>\s*<function={TOOL}>\s*<parameter={ARGUMENT}>\s*Brest\s*</parameter>\s*</function>\s*</tool_call>",
        ("<tool_call>", "</tool_call>"),
    ),
    WrittenCall(
        "glm45",
        rf"<tool_call>{TOOL}\n<arg_key>{ARGUMENT}</arg_key>\s*<arg_value>Brest",
        ("<tool_call>", "</tool_call>"),
    ),
    WrittenCall(
        "glm47", rf"<tool_call>{TOOL}<arg_key>{ARGUMENT}</arg_key>\s*<arg_value>Brest", ("<tool_call>", "</tool_call>")
    ),
    WrittenCall(
        "llama3_json",
        rf'<\|end_header_id\|>\s*{{"name": "{TOOL}", "parameters": {{"{ARGUMENT}": "Brest"}}}}',
        ("<|python_tag|>",),
    ),
    WrittenCall("mistral", rf'\[TOOL_CALLS\]\s*\[{{"name": "{TOOL}", "arguments": {{"{ARGUMENT}"', ("[TOOL_CALLS]",)),
    WrittenCall(
        "deepseek_v3",
        rf"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{TOOL}\n```json\n{{\"{ARGUMENT}\": \"Brest\"}}\n```",
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    ),
    WrittenCall(
        "deepseek_v31",
        rf"<｜tool▁call▁begin｜>{TOOL}<｜tool▁sep｜>{{\"{ARGUMENT}\": \"Brest\"}}<｜tool▁call▁end｜>",
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    ),
)
THOUGHTS = ("<think>", "</think>")


@dataclass(frozen=True)
class Choice:
    """A parser, or None, and why."""

    parser: str | None
    reason: str


def tool_parser(model: ChatModel, known: Set[str]) -> Choice:
    """The parser of tool calls, out of those the engine has (`known`)."""
    if model.family == "gpt_oss":
        return _if_known("openai", known, "gpt-oss writes calls in its own format")
    render = compile_template(model.template)
    if TOOL not in (render([QUESTION], TOOLS) or ""):
        return Choice(None, "the chat template does not show tools to the model")
    written = render([QUESTION, CALL, RESULT], TOOLS) or ""
    for call in WRITTEN_CALLS:
        if re.search(call.pattern, written):
            missing = [token for token in call.tokens if token not in model.tokens]
            if missing:
                return Choice(None, f"the tokenizer has no {missing[0]}, which the parser {call.parser} needs")
            return _if_known(call.parser, known, "the chat template writes calls its way")
    return Choice(None, "the chat template writes calls in a way that no parser is known to read")


def reasoning_parser(model: ChatModel, known: Set[str]) -> Choice:
    """The parser of what a model thinks before it answers, out of those the engine has (`known`)."""
    if model.family == "gpt_oss":
        return _if_known("openai_gptoss", known, "gpt-oss thinks in a channel of its own")
    if not model.tokens.issuperset(THOUGHTS):
        return Choice(None, "the tokenizer has no <think>")
    render = compile_template(model.template)
    if _opens_thought(render) and _opens_thought(render, enable_thinking=False):
        return _if_known("deepseek_r1", known, "the chat template opens every answer with <think>")
    skipped = (render([QUESTION], enable_thinking=False) or "").rstrip()
    if model.family.startswith("qwen3") and re.search(r"<think>\s*</think>$", skipped):
        return _if_known("qwen3", known, "the chat template of this Qwen3 lets thinking be switched off")
    return Choice(None, "the chat template does not say when the model thinks")


def _opens_thought(render: Callable[..., str | None], **more: Any) -> bool:
    return (render([QUESTION], **more) or "").rstrip().endswith("<think>")


def _if_known(parser: str, known: Set[str], reason: str) -> Choice:
    if parser in known:
        return Choice(parser, reason)
    return Choice(None, f"{reason}, but this vLLM has no parser {parser}")
