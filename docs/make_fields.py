"""Writes the tables of `docs/openai.md` from the decisions in `gateway/wire`: `python docs/make_fields.py`.

With `--check` it writes nothing and ends with 1 if the page is not up to date. The same decisions give the same bytes.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.wire import chat_decisions, text, vectors
from gateway.wire.chat_decisions import REFUSED, Decision
from gateway.wire.json_body import json_text
from gateway.wire.responses import decisions as responses_decisions

PAGE = Path(__file__).with_name("openai.md")
TABLES: Mapping[str, Mapping[str, Decision]] = {
    "chat": chat_decisions.FIELDS,
    "chat extensions": chat_decisions.EXTENSION_FIELDS,
    "chat messages": chat_decisions.MESSAGE_FIELDS,
    "chat kinds": chat_decisions.KINDS,
    "completions": text.FIELDS,
    "completions extensions": text.EXTENSION_FIELDS,
    "responses": responses_decisions.FIELDS,
    "embeddings": vectors.EMBEDDINGS_FIELDS,
    "rerank": vectors.RERANK_FIELDS,
}
TABLE = re.compile(r"(<!-- fields of ([a-z ]+) -->\n).*?(<!-- end of fields -->)", re.DOTALL)


def main() -> int:
    """Write or check the page; returns the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    written = filled(page)
    if written == page:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE.name} is out of date: run `python docs/make_fields.py`", file=sys.stderr)
        return 1
    PAGE.write_text(written, encoding="utf-8")
    return 0


def filled(page: str) -> str:
    """The page with its tables as the decisions are now."""
    return TABLE.sub(lambda found: f"{found[1]}\n{_table(TABLES[found[2]])}\n{found[3]}", page)


def _table(decisions: Mapping[str, Decision]) -> str:
    rows = "".join(_row(name, decision) for name, decision in decisions.items())
    return f"| field | what becomes of it | |\n| --- | --- | --- |\n{rows}"


def _row(name: str, decision: Decision) -> str:
    note = decision.note
    if decision.kind == REFUSED and decision.neutral:
        note += "; taken: " + ", ".join(f"`{json_text(value)}`" for value in decision.neutral)
    return f"| `{name}` | {decision.kind} | {note} |\n"


if __name__ == "__main__":
    sys.exit(main())
