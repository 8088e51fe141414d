"""Writes `docs/settings.md` from the docstrings of the settings: `python docs/make_settings.py`.

With `--check` it writes nothing and ends with 1 if the page is not up to date. The same settings give the same bytes.
"""

import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.settings import Settings

PAGE = Path(__file__).with_name("settings.md")
BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))
HEAD = """# Settings

<!-- Written by docs/make_settings.py from gateway/settings.py and gateway/sections: change the docstrings there. -->

Settings come from three places; a later one wins:

1. `alignway.toml` in the folder Alignway is started in, or the file named by `--config`;
2. environment variables: `ALIGNWAY_` and the setting in capitals, two underscores for each dot, such as
   `ALIGNWAY_SERVER__PORT=9000`, `ALIGNWAY_DATA_DIR=/srv/alignway` or `ALIGNWAY_ADMIN_KEY=...`. A list or a table is
   JSON: `ALIGNWAY_MODELS='[{"alias": "assistant"}]'`;
3. flags of the command, such as `--port 9000`.

A setting that does not exist is an error, in the file and in the environment. `alignway config check` looks without
starting anything; `alignway config show` prints every setting with its value.

```toml
data_dir = "/srv/alignway"

[server]
port = 8080
workers = 2

[aligner]
every = "7d"

[[models]]
alias = "assistant"
model = "Qwen/Qwen2.5-1.5B-Instruct"

[models.engine]
kind = "vllm"
args = ["--max-model-len", "4096"]
```

`ALIGNWAY_CACHE_DIR` is no setting of this list: it names the folder for converted and fetched models; by default that
is the user's cache directory. It is read from the environment alone.
"""


def main() -> int:
    """Write or check the page; returns the exit status."""
    page = settings_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"{PAGE.name} is out of date: run `python docs/make_settings.py`", file=sys.stderr)
    return 1


def settings_page() -> str:
    """The whole page."""
    sections = [HEAD, *_section(Settings, "", "Top level", "These stand at the head of the file, before any table.")]
    return "\n".join(sections)


def _section(section: type[BaseModel], prefix: str, title: str, purpose: str) -> list[str]:
    rows, inner = [], []
    for name, field in section.model_fields.items():
        nested = _nested(field.annotation)
        if nested is None:
            rows.append(_row(prefix + name, field))
        else:
            inner += _inner_section(nested, prefix + name, field)
    heads = "| setting | type | default | meaning |\n| --- | --- | --- | --- |"
    return [f"## {title}\n\n{purpose}\n\n{heads}\n" + "".join(rows), *inner]


def _inner_section(section: type[BaseModel], name: str, field: FieldInfo) -> list[str]:
    purpose = (section.__doc__ or "").strip()
    if get_origin(field.annotation) is tuple:
        return _section(section, f"{name}.", f"`[[{name}]]`", purpose)
    return _section(section, f"{name}.", f"`[{name}]`", purpose)


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The section a field holds, alone or in a list."""
    inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _type(field.annotation) + _limits(field), _default(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"table of {_type(parts[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}[annotation]


def _limits(field: FieldInfo) -> str:
    """What the type alone does not say."""
    words = []
    optional = [part for part in get_args(field.annotation) if hasattr(part, "__metadata__")]
    for bound in (*field.metadata, *(bound for part in optional for bound in part.__metadata__)):
        for kind, attribute, phrase in BOUNDS:
            if isinstance(bound, kind):
                words.append(f"{phrase} {getattr(bound, attribute):g}")
        if (pattern := getattr(bound, "pattern", None)) is not None:
            words.append(f"matching `{pattern}`")
        if (length := getattr(bound, "min_length", None)) is not None:
            words.append(f"{length} characters or more")
    return ", " + ", ".join(words) if words else ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | dict):
        return "empty" if not value else f"`{value}`"
    return f"`{value}`"


if __name__ == "__main__":
    sys.exit(main())
