"""`alignway gates` and its routes: cases come in all or none, are listed, and go; each change is in the audit."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gateway.commands.gates import app
from gateway.contracts.case import Case, failures_of
from gateway.errors import AlignwayError, InvalidRequest, NotFound
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.tables import Alias
from tests.gateway.routes.test_admin_keys import Api, api

__all__ = ["api"]

GOOD = {"prompt": [{"role": "user", "content": "Which city is the capital of France?"}], "must_contain": ["paris"]}


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if isinstance(done.exception, AlignwayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def cases_file(folder: Path, *rows: Any) -> str:
    path = folder / "cases.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("asked", "answer", "failures"),
    [
        ({"must_contain": ["Paris"]}, "It is PARIS.", []),
        ({"must_contain": ["Paris", "Seine"]}, "It is Paris.", ["lacks 'Seine'"]),
        ({"must_not_contain": ["Lyon"]}, "Not lyon.", ["contains 'Lyon'"]),
        ({"must_match": [r"^\d+$"]}, "42", []),
        ({"must_match": [r"^\d+$"]}, "It is 42", [r"does not match '^\\d+$'"]),
        ({"must_match": ["a.b"]}, "a\nb", []),
        ({"must_match": ["^(?:a|aa)+$"]}, "a" * 60 + "b", ["'^(?:a|aa)+$' took more than 1 s to match"]),
    ],
)
def test_an_answer_passes_or_says_what_is_wrong(asked: dict[str, Any], answer: str, failures: list[str]) -> None:
    case = Case.model_validate({"id": "case_1", "prompt": GOOD["prompt"], **asked})
    assert failures_of(case, answer) == failures


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "line 2: no JSON"),
        ({"prompt": GOOD["prompt"]}, "line 2: Value error, a case needs must_contain"),
        (GOOD | {"must_match": ["("]}, "line 2: must_match: Value error, no regular expression"),
        (GOOD | {"severity": "fatal"}, "line 2: severity"),
        (GOOD | {"prompt": "Hi?"}, "line 2: prompt: Input should be a valid list"),
        (GOOD | {"prompt": [{"role": "assistant", "content": "Yes."}]}, "line 2: Value error, the last message"),
        (GOOD | {"judge": "is it polite?"}, "line 2: judge: Extra inputs are not permitted"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_added(row: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="nothing was added") as refused:
        run(tmp_path, "add", cases_file(tmp_path, GOOD, row))
    assert problem in refused.value.message


async def test_cases_are_added_listed_and_removed_over_http(api: Api) -> None:
    async with api.services.database.write() as session:
        project = await keys.ensure_project(session)
        session.add(
            Alias(name="assistant", project_id=project.id, base_release_id="rel_1", serving_release_id="rel_1",
                  swap="merged", created_at=1.0, updated_at=1.0)
        )  # fmt: skip
    body = {"alias": "assistant", "cases": [GOOD, GOOD | {"severity": "warn"}]}
    status, added = await api.call("POST", "/gates/cases", body)
    assert status == 201
    first, second = (case["id"] for case in added["data"])
    _, listed = await api.call("GET", "/gates/cases?alias=assistant")
    assert [(case["id"], case["severity"]) for case in listed["data"]] == [(first, "block"), (second, "warn")]
    assert (await api.call("DELETE", f"/gates/cases/{first}"))[0] == 200
    assert (await api.call("DELETE", f"/gates/cases/{first}"))[0] == 404
    _, listed = await api.call("GET", "/gates/cases")
    assert [case["id"] for case in listed["data"]] == [second]
    _, entries = await api.call("GET", f"/audit?subject={first}")
    assert [entry["action"] for entry in entries["data"]] == ["gate_case.removed", "gate_case.added"]
    assert (await api.call("POST", "/gates/cases", body | {"alias": "nobody"}))[0] == 404
    assert (await api.call("POST", "/gates/cases", body | {"cases": [{"prompt": []}]}))[0] == 400


def test_an_unknown_case_or_alias_is_said(tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())
    with pytest.raises(NotFound, match="There is no case `case_1`"):
        run(tmp_path, "remove", "case_1")
    with pytest.raises(NotFound, match="There is no alias `assistant`"):
        run(tmp_path, "add", cases_file(tmp_path, GOOD))
    assert json.loads(run(tmp_path, "list", "--json")) == []


@pytest.mark.parametrize(
    ("gates", "wanted"), [({"judge": True}, "judge.base_url"), ({"tasks": ["mmlu"]}, "gates.tasks_dir")]
)
def test_a_gate_that_lacks_what_it_needs_is_refused_at_the_start(gates: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        Settings.model_validate({"gates": gates})
