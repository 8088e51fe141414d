"""`alignway keys`: what a user types and gets."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.commands.keys import app
from gateway.errors import AlignwayError, InvalidRequest, NotFound


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())
    return tmp_path


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if isinstance(done.exception, AlignwayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def run_json(folder: Path, *words: str) -> Any:
    return json.loads(run(folder, *words, "--json"))


def test_a_key_is_made_listed_rotated_and_revoked(folder: Path) -> None:
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "90000", "--streams", "4", "--images")
    made = run_json(folder, "create", "--name", "app", "--scopes", "inference", "--expires-in", "30d", *limits)
    assert set(made) == {"id", "key", "scopes"}
    assert made["scopes"] == ["inference"]
    (listed,) = run_json(folder, "list")
    assert abs(listed["expires_at"] - time.time() - 30 * 86400) < 60
    assert "key" not in listed
    assert (listed["requests_per_minute"], listed["tokens_per_minute"], listed["streams"]) == (60, 90000, 4)
    assert (listed["images"], listed["state"]) == (True, "active")
    rotated = run_json(folder, "rotate", made["id"])
    assert rotated["key"] != made["key"]
    assert abs(rotated["previous_secret_works_until"] - time.time() - 3600) < 60
    assert run_json(folder, "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert run_json(folder, "list")[0]["state"] == "revoked"


def test_people_are_told_what_a_key_is_and_until_when_it_works(folder: Path) -> None:
    text = run(folder, "create", "--name", "app", "--expires-in", "12h")
    secret, _, rest = text.partition("\n")
    assert secret.startswith("sk-")
    assert "It cannot be shown again" in rest
    assert "It works until" in rest
    key_id = run_json(folder, "list")[0]["id"]
    assert "stops working within a second" in run(folder, "rotate", key_id, "--grace", "0s")
    assert secret not in run(folder, "list")


def test_mistakes_are_told_with_the_way_out(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="30d"):
        run(folder, "create", "--expires-in", "next week")
    with pytest.raises(InvalidRequest, match="the scopes are inference"):
        run(folder, "create", "--scopes", "everything")
    with pytest.raises(InvalidRequest, match="whole number"):
        run(folder, "create", "--streams", "0")
    with pytest.raises(NotFound, match="alignway keys list"):
        run(folder, "rotate", "key_x")
    with pytest.raises(NotFound, match="alignway keys list"):
        run(folder, "revoke", "key_x")
    with pytest.raises(InvalidRequest, match="2026-11"):
        run(folder, "usage", "--month", "november")
    assert run_json(folder, "list") == []


def test_usage_is_empty_before_anybody_asked(folder: Path) -> None:
    assert run_json(folder, "usage") == []
    assert "Usage in" in run(folder, "usage", "--group-by", "user")
