"""Read preference pairs from a JSON Lines file, all or nothing: a bad row is an error that names its line."""

import json
from collections.abc import Iterator
from pathlib import Path

from alignment.errors import BadPairs
from alignment.pairs.formats import BadRow, pair_of
from alignment.pairs.pair import PreferencePair

_SHOWN_PROBLEMS = 5


def read_pairs(path: Path) -> list[PreferencePair]:
    """Every pair of the file, in its order.

    Blank lines are no rows. Raises `BadPairs`, with line number and reason of the first few bad rows, if any row is
    bad, if an id occurs twice, or if the file holds no pair or cannot be read.
    """
    pairs: dict[str, PreferencePair] = {}
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            pair = pair_of(json.loads(line), fallback_id=f"line-{number}")
            if pair.id in pairs:
                raise BadRow(f"the id {pair.id!r} occurred before")
            pairs[pair.id] = pair
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not JSON: {error.msg} at column {error.colno}")
        except BadRow as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise BadPairs(_summary(path, problems))
    if not pairs:
        raise BadPairs(f"{path} holds no pair; give a JSON Lines file with one preference pair on each line")
    return list(pairs.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise BadPairs(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first") from error
    except OSError as error:
        raise BadPairs(f"{path} cannot be read: {error.strerror}; check the path") from error


def _summary(path: Path, problems: list[str]) -> str:
    shown = "\n  ".join(problems[:_SHOWN_PROBLEMS])
    more = f"\n  and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return f"{path} has {len(problems)} bad row{'s' * (len(problems) > 1)}; mend or remove them:\n  {shown}{more}"
