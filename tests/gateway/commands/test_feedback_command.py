"""`alignway feedback`: pairs of every format come in, go out, and come into another instance as the same pairs."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.commands.feedback import app
from gateway.contracts.pair import FeedbackPair
from gateway.errors import AlignwayError, InvalidRequest
from gateway.feedback.imports import InvalidPairs
from gateway.storage.database import Database
from gateway.storage.feedback_stats import eligible_bodies
from tests.gateway.formats.shapes import MEDICAL, SHAPES, rating

SAID = ("--source", "crm", "--licence", "CC-BY-4.0")
TOOL = {"type": "function", "function": {"name": "查询", "parameters": {}}}
CALL = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "查询"}}]}


@pytest.fixture
def instance(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty instance: the commands below work on its database. Returns its URL."""
    monkeypatch.setenv("ALIGNWAY_DATABASE__URL", database_url)
    return database_url


@pytest.fixture
def other_instance(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "other.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite+aiosqlite:///{path}"


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if isinstance(done.exception, AlignwayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(folder: Path, *words: str) -> Any:
    return json.loads(run(folder, *words, "--json"))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path


def pairs_in(url: str) -> list[FeedbackPair]:
    async def read() -> list[FeedbackPair]:
        database = Database(url)
        found = [FeedbackPair.model_validate(body) async for body in eligible_bodies(database, None)]
        await database.close()
        return found

    return asyncio.run(read())


def said_by(pairs: list[FeedbackPair]) -> list[tuple[Any, ...]]:
    """What a pair says, without the ids and the rater of its instance."""
    return sorted(
        (
            *(message.model_dump_json(exclude_none=True) for message in pair.prompt),
            (pair.chosen.message.model_dump_json(), pair.chosen.origin),
            (pair.rejected.message.model_dump_json(), pair.rejected.origin),
            (json.dumps(pair.tools), pair.prompt_hash, pair.weight, pair.basis, pair.fact, pair.source, pair.licence),
            pair.judged_at.isoformat(),
        )
        for pair in pairs
    )


@pytest.mark.parametrize(
    ("name", "rows", "sides"),
    [
        ("openai", [SHAPES["openai"][1]], ("大约两升,天热时更多。", "水是一种液体。")),
        ("trl", [MEDICAL], (MEDICAL["chosen"], MEDICAL["rejected"])),
        ("trl", [SHAPES["trl shared prefix"][1]], ("大约两升,天热时更多。", "水是一种液体。")),
        ("ms-swift", [SHAPES["ms-swift response"][1]], ("大约两升,天热时更多。", "水是一种液体。")),
        ("openwebui", [rating(), rating("a2", -1)], ("大约两升,天热时更多。", "水是一种液体。")),
    ],
)
def test_a_file_of_each_foreign_format_is_imported(
    instance: str, tmp_path: Path, name: str, rows: list[Any], sides: tuple[str, str]
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    result = run_json(tmp_path, "import", str(path), *SAID, "--format", name)
    assert (result["rows"], result["new"], result["skipped"]) == (len(rows), 1, 0)
    (pair,) = pairs_in(instance)
    assert (pair.chosen.message.text, pair.rejected.message.text) == sides
    assert (pair.source, pair.licence, pair.basis, pair.rater.trusted) == ("crm", "CC-BY-4.0", "import", True)


@pytest.mark.parametrize("format_", ["alignway", "openai", "trl", "ms-swift"])
def test_what_is_exported_is_the_same_in_another_instance(
    instance: str, other_instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    tools = {"messages": [{"role": "user", "content": "查一下"}, CALL], "rejected_response": "不", "tools": [TOOL]}
    correction = {**SHAPES["alignway"][1], "prompt": [{"role": "user", "content": "剂量?"}]}
    rows = write(tmp_path / "in.jsonl", SHAPES["openai"][1], MEDICAL | {"weight": 0.25}, tools, correction)
    assert run_json(tmp_path, "import", str(rows), *SAID)["new"] == 4
    out = tmp_path / "out.jsonl"
    assert run_json(tmp_path, "export", "--out", str(out), "--format", format_)["pairs"] == 4
    monkeypatch.setenv("ALIGNWAY_DATABASE__URL", other_instance)
    assert run_json(tmp_path, "import", str(out), "--source", "x", "--licence", "y")["new"] == 4
    ours, theirs = said_by(pairs_in(instance)), said_by(pairs_in(other_instance))
    if format_ == "alignway":
        assert theirs == ours
    else:  # other programs have no place for why and when a side was preferred, nor for who wrote it

        def shared(said: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            return [(*one[:-4], one[-4][0], one[-3][0], one[-2][:3], one[-2][5:]) for one in said]

        assert shared(theirs) == shared(ours)


def test_a_bad_row_stops_all_and_is_named_by_its_line(instance: str, tmp_path: Path) -> None:
    rows = write(tmp_path / "in.jsonl", MEDICAL, {"prompt": "问", "chosen": "好", "rejected": "好 "}, [1])
    with pytest.raises(InvalidPairs, match="2 of 3 rows are invalid, so none was") as caught:
        run(tmp_path, "import", str(rows), *SAID)
    assert [(one["line"], one["code"]) for one in caught.value.details] == [
        (2, "identical_outputs"),
        (3, "invalid_value"),
    ]
    assert pairs_in(instance) == []


def test_bad_rows_are_left_out_on_request_and_told_of(instance: str, tmp_path: Path) -> None:
    rows = write(tmp_path / "in.jsonl", {"prompt": "a"}, MEDICAL)
    result = run_json(tmp_path, "import", str(rows), *SAID, "--on-error", "skip")
    assert (result["new"], result["skipped"]) == (1, 1)
    assert [(one["line"], one["code"]) for one in result["errors"]] == [(1, "unknown_format")]
    assert len(pairs_in(instance)) == 1


def test_the_same_file_twice_is_the_same_pairs(instance: str, tmp_path: Path) -> None:
    rows = write(tmp_path / "in.jsonl", MEDICAL, SHAPES["openai"][1], MEDICAL)
    first = run_json(tmp_path, "import", str(rows), *SAID)
    again = run_json(tmp_path, "import", str(rows), *SAID)
    assert [(one["pairs"], one["new"], one["known"]) for one in (first, again)] == [(3, 2, 1), (3, 0, 3)]
    assert len(pairs_in(instance)) == 2


def test_another_licence_is_a_new_word_on_the_same_pair(instance: str, tmp_path: Path) -> None:
    rows = write(tmp_path / "in.jsonl", MEDICAL)
    run(tmp_path, "import", str(rows), *SAID)
    result = run_json(tmp_path, "import", str(rows), "--source", "crm", "--licence", "internal")
    assert (result["new"], result["revised"]) == (0, 1)
    assert [pair.licence for pair in pairs_in(instance)] == ["internal"]


def test_ratings_that_compare_nothing_are_counted(instance: str, tmp_path: Path) -> None:
    rows = write(tmp_path / "in.jsonl", rating(siblings=()), rating())
    result = run_json(tmp_path, "import", str(rows), *SAID)
    assert (result["rows"], result["pairs"], result["without_pair"]) == (2, 1, 1)
    assert "1 ratings compare nothing" in run(tmp_path, "import", str(rows), *SAID)


def test_stats_count_votes_pairs_raters_and_sources(instance: str, tmp_path: Path) -> None:
    own = MEDICAL | {"source": "ward", "licence": "internal", "prompt": "疼吗?"}
    run(tmp_path, "import", str(write(tmp_path / "in.jsonl", MEDICAL, own)), *SAID)
    found = run_json(tmp_path, "stats")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert found == {
        "votes": [{"type": "pair", "status": "active", "votes": 2}],
        "pairs": [{"state": "eligible", "reason": None, "pairs": 2}],
        "raters": [{"kind": "end_user", "raters": 1}],
        "sources": [
            {"source": "crm", "licence": "CC-BY-4.0", "eligible_pairs": 1},
            {"source": "ward", "licence": "internal", "eligible_pairs": 1},
        ],
        "votes_by_day": [{"day": today, "votes": 2}],
    }
    assert "eligible" in run(tmp_path, "stats", "--alias", "assistant")
    assert run_json(tmp_path, "stats", "--alias", "absent")["votes"] == []


def test_export_of_an_alias_goes_to_standard_output(instance: str, tmp_path: Path) -> None:
    run(tmp_path, "import", str(write(tmp_path / "in.jsonl", MEDICAL)), *SAID)
    (line,) = run(tmp_path, "export", "--format", "trl", "--alias", "assistant").splitlines()
    assert json.loads(line)["chosen"] == [{"role": "assistant", "content": MEDICAL["chosen"]}]
    assert run(tmp_path, "export", "--alias", "absent") == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--alias", "absent"), "there are: assistant"),
        (("--on-error", "ignore"), "--on-error is stop or skip"),
        (("--format", "csv"), "--format is auto or one of openai"),
        (("--source", ""), "--source takes 1 to 256"),
    ],
)
def test_a_wrong_option_says_what_to_give(instance: str, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    rows = write(tmp_path / "in.jsonl", MEDICAL)
    with pytest.raises(InvalidRequest, match=reason):
        run(tmp_path, "import", str(rows), *SAID, *words)
