"""`alignway erase`: what an operator types and gets."""

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.access.secrets import Secrets
from gateway.commands.erase import erase
from gateway.commands.users import app as users
from gateway.errors import InvalidRequest
from gateway.storage.database import Database
from gateway.storage.keys import ensure_root_secret
from tests.gateway.privacy.conftest import Place

cli = typer.Typer()
cli.command()(erase)


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data directory in which amy and bob have chatted and voted."""
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())

    async def prepare() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'alignway.db'}")
        async with database.write() as session:
            secrets = Secrets(await ensure_root_secret(session))
        place = Place(database, tmp_path / "store", secrets)
        await place.prepare()
        for user in ("amy", "bob"):
            await place.chat_and_vote(user, f"is it safe, {user}?")
        await place.freeze("ds_1")
        await place.release("rel_1", "ds_1")
        await database.close()

    asyncio.run(prepare())
    return tmp_path


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(cli, [*words, "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_user_is_erased_and_programs_get_the_receipt(folder: Path) -> None:
    done = json.loads(run(folder, "--user", "amy", "--policy", "block", "--json"))
    assert (done["state"], done["policy"], done["counts"]["feedback"]) == ("done", "block", 1)
    assert done["tainted_releases"] == ["rel_1"]
    assert done["receipt"]["sha256"]


def test_people_are_told_what_went_and_what_to_do_about_releases(folder: Path) -> None:
    told = run(folder, "--user", "bob", "--project", "p1")
    assert "2 completion" in told
    assert "Data set ds_1 is replaced by ds_" in told
    assert "Trained on what was erased: rel_1." in told
    assert "POST /admin/v1/retrain" in told
    assert "deleted nothing" in run(folder, "--user", "bob")


def test_a_policy_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="flag, schedule_retrain, block"):
        run(folder, "--user", "amy", "--policy", "shred")


def test_what_is_stored_about_a_user_is_printed_or_written(folder: Path) -> None:
    def export(*words: str) -> str:
        done = CliRunner().invoke(users, ["export", "amy", *words, "--data-dir", str(folder)])
        assert done.exit_code == 0, done.output
        return done.stdout

    document = json.loads(export())
    assert (len(document["completions"]), len(document["votes"]), len(document["pairs"])) == (2, 1, 1)
    assert document["used_in"] == {"datasets": ["ds_1"], "releases": ["rel_1"]}
    file = folder / "amy.json"
    assert "2 completions, 1 votes, 1 pairs" in export("--output", str(file))
    assert json.loads(file.read_text(encoding="utf-8"))["pairs"] == document["pairs"]
