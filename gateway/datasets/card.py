"""A data set's card as a page for people. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any


def summary(card: Mapping[str, Any]) -> str:
    """The way from votes to pairs in one line."""
    counts = card["counts"]
    struck = counts["excluded"] | counts["dropped"]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(struck.items(), key=lambda one: -one[1]))
    return (
        f"{counts['candidates']:,} candidate pairs from votes -> dropped {dropped or 'none'} -> "
        f"{card['pairs']:,} pairs -> {card['train']['pairs']:,} to train on / "
        f"{card['holdout']['pairs']:,} to measure on"
    )


def card_markdown(card: Mapping[str, Any]) -> str:
    """The page."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Data set {card['id']}"
    yield ""
    yield f"For `{card['alias']}`, frozen {card['created_at']}. {summary(card)}."
    yield ""
    for warning in card["warnings"]:
        yield f"- **Warning:** {warning}"
    yield from _table("What became of the votes", card["counts"]["excluded"] | card["counts"]["dropped"], "pairs")
    for part, name in (("train", "To train on"), ("holdout", "To measure on")):
        yield from _facts(name, card[part])
    if card.get("thumbs"):
        yield from _facts("Single answers with a thumb (for `kto`)", card["thumbs"])
    if card["sources"]:
        yield "## Imports"
        yield ""
        yield "| source | licence | pairs |"
        yield "| --- | --- | --- |"
        for one in card["sources"]:
            yield f"| {_cell(one['source'])} | {_cell(one['licence'])} | {one['pairs']:,} |"
        yield ""
    yield from _facts("Bias: length", card["bias"]["length"])
    yield from _facts("Bias: style", card["bias"]["style"])
    for rater, one in card["bias"]["position"].items():
        if one["flagged"]:
            yield f"- **Position:** {rater} chose what stood first in {one['left_share']:.0%} of {one['votes']} votes."
            yield ""
    yield from _alarms(card["alarms"])
    if card.get("agreement"):
        yield from _facts("Agreement of raters", card["agreement"])
    yield from _table("Redacted", card["redacted"], "places")
    yield from _facts("Made by these settings", card["settings"])
    yield "## Checksums"
    yield ""
    for name, digest in card["sha256"].items():
        yield f"- `{name}`: `{digest}`"


def _alarms(alarms: Mapping[str, Any]) -> Iterator[str]:
    yield "## Alarms"
    yield ""
    if not any(alarms.values()):
        yield "None."
    for one in alarms["phrases"]:
        yield (
            f"- The phrase `{_cell(one['phrase'])}` stands in {one['chosen']} chosen and {one['rejected']} rejected "
            f"texts alone (z = {one['z']:+.1f})."
        )
    for rater, count in alarms["bursts"].items():
        yield f"- {rater} voted {count} times within an hour."
    for rater, count in alarms["one_rater_clusters"].items():
        yield f"- {rater} alone made {count} clusters of near-duplicates."
    yield ""


def _table(title: str, rows: Mapping[str, Any], unit: str) -> Iterator[str]:
    if rows:
        yield f"## {title}"
        yield ""
        yield f"| rule | {unit} |"
        yield "| --- | --- |"
        for name, count in sorted(rows.items(), key=lambda one: -one[1]):
            yield f"| {_cell(name)} | {count:,} |"
        yield ""


def _facts(title: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    for name, value in facts.items():
        shown = ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
        yield f"- {name.replace('_', ' ')}: {shown}"
    yield ""


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
