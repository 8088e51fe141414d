"""`alignway retrain` and `alignway runs`: what an operator asks for, foretells, sees and stops."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.commands.retrain import retrain
from gateway.commands.runs import app as runs
from gateway.contracts.placement import GIB, Device, Effort
from gateway.contracts.training import TrainingOptions
from gateway.errors import InvalidRequest
from gateway.storage.aligner_hosts import report_aligner
from gateway.storage.database import Database
from gateway.storage.datasets import settle_prompts
from gateway.storage.runs import create_run
from tests.gateway.rollout.served import ALIAS, Served
from tests.gateway.rollout.test_triggers import store

CPU = Device(name="cpu", label="two cores", total_bytes=16 * GIB, free_bytes=8 * GIB)


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with an alias of 16 pairs to train on and 4 held out, and settings that plan a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())
    (tmp_path / "alignway.toml").write_text(
        '[aligner]\nschedule = "30 2 * * *"\ntime_zone = "Asia/Shanghai"\nmaintenance_window = "* 00:00-24:00"\n'
    )
    inside(tmp_path, fill)
    return tmp_path


async def fill(served: Served) -> None:
    await served.prepare()
    prompts = [f"p{number}" for number in range(20)]
    await store(served, "proj_1", *prompts)
    async with served.database.write() as session:
        for number, prompt in enumerate(prompts):
            row = {"alias": ALIAS, "prompt_hash": prompt, "side": "train" if number < 16 else "holdout"}
            await settle_prompts(session, [row | {"number": 1, "cluster": prompt, "bridges": False, "signature": b""}])


def inside(folder: Path, work: Any) -> None:
    async def at_once() -> None:
        database = Database(f"sqlite+aiosqlite:///{folder / 'alignway.db'}")
        await work(Served(database))
        await database.close()

    asyncio.run(at_once())


def call(folder: Path, app: typer.Typer, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def retrain_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(retrain)
    return app


async def an_aligner(served: Served) -> None:
    async with served.database.write() as session:
        await report_aligner(session, "aligner_1", "host", [CPU], time.time())


async def an_earlier_run(served: Served) -> None:
    """It took 50 s for 10 steps, and 40 s for the rest; and an aligner is there."""
    async with served.database.write() as session:
        run = await create_run(
            session, alias=ALIAS, trigger="manual", actor="k", options=TrainingOptions(), now=time.time() - 7200
        )
        run.state, run.release_id, run.finished_at = "succeeded", "rel_a", 1090.0
        run.effort = Effort(
            device="cpu", peak_memory_bytes=2 * GIB, train_seconds=50.0, steps=10, began_at=1000.0
        ).model_dump()
    await an_aligner(served)


async def another_at_work(served: Served) -> None:
    await served.prepare("zebra")
    async with served.database.write() as session:
        run = await create_run(session, alias="zebra", trigger="manual", actor="k", options=TrainingOptions(), now=1.0)
        run.state = "running"


def test_a_dry_run_says_pairs_device_memory_duration_and_when_and_queues_nothing(folder: Path) -> None:
    told = json.loads(call(folder, retrain_app(), "--dry-run", "--json"))
    assert (told["train_pairs"], told["holdout_pairs"], told["steps"]) == (16, 4, 12)  # 3 passes, 4 pairs a step
    assert (told["would_start"], told["duration_seconds"], told["peak_memory_bytes"]) == (False, None, None)
    assert told["starts_reason"].startswith("no aligner runs; start `alignway up`")

    inside(folder, an_earlier_run)
    told = json.loads(call(folder, retrain_app(), "--dry-run", "--json"))
    assert (told["would_start"], told["starts"], told["displaces"]) == (True, "now", None)
    assert told["duration_seconds"] == pytest.approx(12 * 5 + 40)
    assert (told["peak_memory_bytes"], told["device"]) == (2 * GIB, "cpu")
    assert told["memory_budget_bytes"] == pytest.approx(0.9 * 8 * GIB, abs=1)
    shorter = json.loads(call(folder, retrain_app(), "--dry-run", "--json", "--max-steps", "2"))
    assert shorter["duration_seconds"] == pytest.approx(2 * 5 + 40)
    other = json.loads(call(folder, retrain_app(), "--dry-run", "--json", "--method", "dpo"))
    assert other["duration_seconds"] is None  # another method, another pace
    shown = call(folder, retrain_app(), "--dry-run")
    assert "16 to train on, 4 held out" in shown
    assert "about 2 min, by the pace of 1 earlier run" in shown
    assert len(json.loads(call(folder, runs, "list", "--json"))["runs"]) == 1
    inside(folder, another_at_work)
    told = json.loads(call(folder, retrain_app(), "--dry-run", "--json", "--alias", ALIAS))
    assert (told["starts"], told["starts_reason"]) == ("queued", "every aligner is at work for another alias")


def test_the_queue_is_seen_and_runs_are_paused_resumed_and_cancelled(folder: Path) -> None:
    first = json.loads(call(folder, retrain_app(), "--json", "--set", "rank=8"))
    second = json.loads(call(folder, retrain_app(), "--json"))
    assert (first["options"]["rank"], first["queue_position"], second["queue_position"]) == (8, 0, 1)
    listed = call(folder, runs, "list")
    assert "no aligner runs; start `alignway up`" in listed
    assert "assistant: next planned run" in listed
    assert "02:30 CST (30 2 * * * Asia/Shanghai)" in listed
    assert "is paused" in call(folder, runs, "pause", first["id"])
    assert json.loads(call(folder, runs, "show", second["id"], "--json"))["queue_position"] == 0
    inside(folder, an_aligner)
    assert "1 run is before it" not in call(folder, runs, "list")
    assert "is queued" in call(folder, runs, "resume", first["id"])
    assert "1 run is before it" in call(folder, runs, "list")
    assert "is cancelled" in call(folder, runs, "cancel", first["id"])
    with pytest.raises(InvalidRequest, match="has cancelled already; create another one"):
        call(folder, runs, "resume", first["id"])


def test_automatic_training_is_paused_and_said_so(folder: Path) -> None:
    told = call(folder, runs, "pause", "--automatic", "--reason", "the votes look odd")
    assert "automatic training is paused: the votes look odd. Begin it again with `alignway runs resume" in told
    assert json.loads(call(folder, runs, "list", "--json"))["automatic"][0]["next_planned_at"] is None
    assert "next planned run" in call(folder, runs, "resume", "--automatic")
    with pytest.raises(InvalidRequest, match="Name a run"):
        call(folder, runs, "pause")


def test_what_cannot_be_trained_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"rank: Input should be greater than 0.* docs/training.md has them all"):
        call(folder, retrain_app(), "--set", "rank=0")
    with pytest.raises(InvalidRequest, match="--set takes NAME=VALUE"):
        call(folder, retrain_app(), "--set", "rank")
