"""The flags that have vLLM read tool calls and thoughts: as the settings say, or chosen by the model's folder."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from gateway.engines.chat_template import read_chat_model
from gateway.engines.parsers import Choice, reasoning_parser, tool_parser
from gateway.settings import EngineSettings

TOOL_FLAG, REASONING_FLAG, TEMPLATE_FLAG = "--tool-call-parser", "--reasoning-parser", "--chat-template"


@dataclass(frozen=True)
class Parsers:
    """What a vLLM is started with."""

    tools: Choice
    reasoning: Choice
    flags: tuple[str, ...]
    """Nothing for a parser that `engine.args` give: those stand for themselves."""


def choose_parsers(
    settings: EngineSettings, folder: Path, tool_parsers: Set[str], reasoning_parsers: Set[str]
) -> Parsers:
    """Decide for the model in `folder` and a vLLM that has these parsers."""
    model = read_chat_model(folder)
    tools = _told(settings, settings.tool_parser, "engine.tool_parser", TOOL_FLAG) or tool_parser(model, tool_parsers)
    reasoning = _told(
        settings, settings.reasoning_parser, "engine.reasoning_parser", REASONING_FLAG
    ) or reasoning_parser(model, reasoning_parsers)
    flags: tuple[str, ...] = ()
    if tools.parser and not _given(settings, TOOL_FLAG):
        flags += ("--enable-auto-tool-choice", TOOL_FLAG, tools.parser)
    if reasoning.parser and not _given(settings, REASONING_FLAG):
        flags += (REASONING_FLAG, reasoning.parser)
    return Parsers(tools, reasoning, flags)


def _told(settings: EngineSettings, value: str, setting: str, flag: str) -> Choice | None:
    """What the operator decided; None: we are to choose."""
    given = _given(settings, flag)
    if given is not None:
        return Choice(given, f"engine.args have {flag}")
    if value != "auto":
        return Choice(None if value == "off" else value, f'{setting} = "{value}"')
    if _given(settings, TEMPLATE_FLAG) is not None:
        return Choice(None, f"engine.args have a {TEMPLATE_FLAG} of their own: say which parser with {setting}")
    return None


def _given(settings: EngineSettings, flag: str) -> str | None:
    """The value of a flag in `engine.args`, written `--flag value` or `--flag=value`."""
    for number, argument in enumerate(settings.args):
        name, _, value = argument.partition("=")
        if name.replace("_", "-") == flag:
            return value or "".join(settings.args[number + 1 : number + 2])
    return None
