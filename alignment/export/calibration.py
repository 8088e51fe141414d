"""The sequences that GPTQ and AWQ watch flow through the model: from a file, or the few texts that come with us."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.errors import BadPairs
from alignment.gate.perplexity import read_paragraphs
from gateway.formats.fields import BadRow
from gateway.formats.pairs import pairs_of

_TEXTS = Path(__file__).parent / "texts" / "calibration.txt"
_MOST_SEQUENCES = 256
_MOST_TOKENS = 512


def calibration_ids(tokenizer: Any, dataset: Path | None) -> tuple[tuple[int, ...], ...]:
    """Token ids of the first 256 rows, 512 of each at most. Raises `BadPairs`, with the line, at a row without text."""
    texts = read_paragraphs(_TEXTS) if dataset is None else read_texts(dataset, tokenizer)
    rows = (tuple(tokenizer(text)["input_ids"][:_MOST_TOKENS]) for text in texts[:_MOST_SEQUENCES])
    return tuple(row for row in rows if len(row) > 1)


def read_texts(dataset: Path, tokenizer: Any) -> list[str]:
    """The text of every row: `text`, or `messages`, or a preference pair's prompt with its chosen completion."""
    try:
        lines = dataset.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPairs(f"{dataset} cannot be read: {error}") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                texts.append(_text_of(json.loads(line), tokenizer))
            except (ValueError, TypeError, KeyError) as error:
                raise BadPairs(f"{dataset}, line {number}: {error}") from error
    if not texts:
        raise BadPairs(f"{dataset} holds no text to calibrate with; give a JSON Lines file with one on each line")
    return texts


def _text_of(row: Any, tokenizer: Any) -> str:
    if not isinstance(row, dict):
        raise BadRow(f"expected an object, found {type(row).__name__}")
    if isinstance(row.get("text"), str):
        return str(row["text"])
    if "messages" in row and not row.keys() & {"chosen", "rejected", "rejected_response", "rejected_messages"}:
        return _rendered(row["messages"], tokenizer)
    pairs = pairs_of(row)
    if not pairs:
        raise BadRow("the row holds no pair")
    return _rendered([message.template_dict() for message in (*pairs[0].prompt, pairs[0].chosen)], tokenizer)


def _rendered(messages: Sequence[dict[str, Any]], tokenizer: Any) -> str:
    """As the model's chat template writes them; without a template, text after text."""
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False))
    return "\n\n".join(str(message["content"]) for message in messages)
