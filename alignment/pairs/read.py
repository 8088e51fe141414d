"""Read preferences from a file or folder, all or nothing: a bad row is an error that names its place and the reason."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from alignment.errors import BadPairs
from alignment.pairs.pair import Answer, PreferencePair
from alignment.pairs.table import NamedRow, named_rows
from gateway.formats.answers import demonstrations_of, is_answer, thumbs_of
from gateway.formats.fields import BadRow
from gateway.formats.pairs import pairs_of
from gateway.formats.record import RowAnswer, RowPair

_SHOWN_PROBLEMS = 5
_Item = TypeVar("_Item", PreferencePair, Answer)


def read_pairs(path: Path) -> list[PreferencePair]:
    """Every pair, in its order. Raises `BadPairs` as all of these do.

    Blank lines are no rows. `BadPairs` names the places and reasons of the first few bad rows if any row is bad or an
    id occurs twice, and what to do if there is no row or something cannot be read.
    """
    return _read(path, _only_pairs)


def read_thumbs(path: Path) -> list[Answer]:
    """Single answers, each with its thumb; of pairs both sides, of a frozen data set its lone ratings, too."""
    rows = named_rows(path, thumbs=True)
    return _read(path, lambda row, fallback_id: [_answer(one, fallback_id) for one in thumbs_of(row)], rows)


def read_demonstrations(path: Path) -> list[Answer]:
    """Answers to imitate; of pairs the chosen side. Those with a thumb down are among them, for the caller to count."""
    return _read(path, lambda row, fallback_id: [_answer(one, fallback_id) for one in demonstrations_of(row)])


def _only_pairs(row: Any, fallback_id: str) -> list[PreferencePair]:
    if is_answer(row):
        raise BadRow("a single answer is no pair; train on answers with method kto (a thumb each) or sft")
    found = pairs_of(row)
    return [_pair(one, fallback_id, f":{n}" * (len(found) > 1)) for n, one in enumerate(found, start=1)]


def _pair(pair: RowPair, fallback_id: str, suffix: str) -> PreferencePair:
    name = f"{pair.id or fallback_id}{suffix}"
    return PreferencePair(name, pair.prompt, pair.chosen, pair.rejected, pair.weight, pair.tools)


def _answer(answer: RowAnswer, fallback_id: str) -> Answer:
    name = answer.id or fallback_id
    return Answer(
        name if answer.side is None else f"{name}:{answer.side}",
        answer.prompt,
        answer.completion,
        answer.is_desirable,
        answer.weight,
        answer.tools,
    )


def _read(
    path: Path, parse: Callable[[Any, str], Sequence[_Item]], rows: Iterable[NamedRow] | None = None
) -> list[_Item]:
    found: dict[str, _Item] = {}
    problems: list[str] = []
    for place, fallback_id, row in named_rows(path) if rows is None else rows:
        try:
            for item in _parsed(row, fallback_id, parse):
                if item.id in found:
                    raise BadRow(f"the id {item.id!r} occurred before")
                found[item.id] = item
        except BadRow as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise BadPairs(_summary(path, problems))
    if not found:
        raise BadPairs(f"{path} holds no pair; give a JSON Lines file with one preference pair on each line")
    return list(found.values())


def _parsed(row: Any, fallback_id: str, parse: Callable[[Any, str], Sequence[_Item]]) -> Sequence[_Item]:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow(f"expected an object, found {type(row).__name__}")
    return parse(row, fallback_id)


def _summary(path: Path, problems: list[str]) -> str:
    shown = "\n  ".join(problems[:_SHOWN_PROBLEMS])
    more = f"\n  and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return f"{path} has {len(problems)} bad row{'s' * (len(problems) > 1)}; mend or remove them:\n  {shown}{more}"
