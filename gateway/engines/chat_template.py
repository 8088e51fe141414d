"""What a model's folder says of its chat: the template, the added tokens, the family. Renders a template as engines do.

A template is code that came with a model: it runs in a sandbox, and one that fails says nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_FAILURES = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError)


@dataclass(frozen=True)
class ChatModel:
    """What is known of a model without loading it."""

    template: str = ""
    """Jinja source; empty where there is none, or several."""
    tokens: frozenset[str] = frozenset()
    """Texts that are one token of their own, such as `<think>`."""
    family: str = ""
    """`model_type` of its configuration, such as `qwen3_moe`."""


def read_chat_model(folder: Path) -> ChatModel:
    """Read a model's folder; what is missing or unreadable is left empty."""
    configuration, tokenizer = _read_json(folder / "tokenizer_config.json"), _read_json(folder / "tokenizer.json")
    template: Any = configuration.get("chat_template")
    with suppress(OSError, ValueError):
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    listed = tokenizer.get("added_tokens")
    added = [token.get("content") for token in listed if isinstance(token, dict)] if isinstance(listed, list) else []
    return ChatModel(
        template if isinstance(template, str) else "",
        frozenset(token for token in added if isinstance(token, str)),
        str(_read_json(folder / "config.json").get("model_type", "")),
    )


def compile_template(source: str) -> Callable[..., str | None]:
    """A function that renders a chat: `render(messages, tools, enable_thinking=...)`; None where the template fails."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}

    def render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None, **more: Any) -> str | None:
        given = {"bos_token": "", "eos_token": "", "add_generation_prompt": True} | more
        # As engines do: without tools the variable is None, and everything a template changes is its own copy.
        copied = json.loads(json.dumps({"messages": messages, "tools": tools}))
        try:
            return environment.from_string(source).render(copied | given)
        except TEMPLATE_FAILURES:
            return None

    return render


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
