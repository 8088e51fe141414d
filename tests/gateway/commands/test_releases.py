"""`alignway releases rollout`: what an operator sees of a canary."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.commands.releases import app
from gateway.errors import NotFound
from gateway.storage.database import Database
from gateway.storage.tables import Rollout
from tests.gateway.rollout.served import ALIAS, Served
from tests.gateway.rollout.test_canary import answer, begun

TEN_MINUTES = 600.0


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data directory with an alias of the name `assistant`."""
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())
    inside(tmp_path, lambda served: served.prepare())
    return tmp_path


def inside(folder: Path, work: Any) -> None:
    async def at_once() -> None:
        database = Database(f"sqlite+aiosqlite:///{folder / 'alignway.db'}")
        await work(Served(database, {"look_seconds": 1e-6}))
        await database.close()

    asyncio.run(at_once())


async def ten_minutes_in(served: Served) -> None:
    """A canary at 5 % with 120 good answers in its first ten minutes."""
    rollout = await begun(served)
    async with served.database.write() as session:
        (await session.get_one(Rollout, rollout.id)).step_began_at = time.time() - TEN_MINUTES
    await answer(served, "rel_a", 120)
    await answer(served, "rel_base", 400)
    await served.step()


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_canary_is_shown_with_its_share_what_is_left_and_every_signal(folder: Path) -> None:
    inside(folder, ten_minutes_in)
    shown = json.loads(run(folder, "rollout", "--json"))
    canary = shown["canary"]
    assert (canary["share"], canary["dwell_left_requests"], canary["e_value"]) == (0.05, 80, 1.0)
    assert 1190 <= canary["dwell_left_seconds"] <= 1200
    assert (canary["next"], shown["evidence"]["candidate"]["requests"]) == ("wait", 120)
    told = " ".join(run(folder, "rollout", "--alias", ALIAS).split())
    assert "share 5%" in told
    assert "and 80 requests left" in told
    for signal in ("errors", "empty", "looping", "truncated", "ttft", "down_votes", "restarts"):
        assert f"{signal} │ ok" in told or f"{signal} | ok" in told


def test_an_alias_without_a_rollout_is_told_how_to_begin_one(folder: Path) -> None:
    with pytest.raises(NotFound, match="alignway releases promote"):
        run(folder, "rollout")


def test_a_canary_promoted_by_command_says_how_to_follow_it(folder: Path) -> None:
    told = run(folder, "promote", "rel_a", "--strategy", "canary")
    assert "alignway releases rollout" in told
    assert json.loads(run(folder, "rollout", "--json"))["share"] == 0.05
