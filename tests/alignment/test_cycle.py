"""From eligible pairs to a sealed release over a real database, with a real training process and a tiny model."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from alignment.base_models.identity import describe
from alignment.calibration.run import Asked, calibrate
from alignment.errors import AlignmentError
from alignment.freezing import Rules
from alignment.jobs.itemised import pair_kinds
from alignment.pairs.read import read_pairs as read_trained
from alignment.worker import Worker
from gateway.contracts.gate_report import REPORT_FILE, Calibration, GateReport
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.contracts.placement import Effort
from gateway.contracts.prompt import prompt_hash
from gateway.contracts.release import Release
from gateway.contracts.seal import verify_seal
from gateway.contracts.training import TrainingOptions
from gateway.datasets.freeze import HOLDOUT_FILE
from gateway.datasets.pair_file import read_pairs
from gateway.sections.annotation import JudgeSettings
from gateway.sections.gates import GateSettings
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Dataset, Feedback, PairRow, PromptSide, Run
from gateway.storage.gate_calibrations import find_calibration
from gateway.storage.migrate import migrate
from gateway.storage.pairs import pair_values
from gateway.storage.runs import create_run, find_run, list_run_events, request_cancel
from gateway.storage.tables import Alias, Project, ReleaseRow
from tests.gateway.annotation.endpoint import listening, longer

NOW = 1_795_000_000.0
QUICK = {"rank": 4, "learning_rate": 1e-2, "max_length_tokens": 256, "device": "cpu"}


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(sqlite_url)
    await migrate(database)
    yield database
    await database.close()


# A random model of two layers goes round in circles, and two short trainings carry it far: neither is looked at here.
LENIENT = Rules(gates=GateSettings(kl_block=100.0, repeats_floor=1.0, ended_block=1.0))

WATCHED = LENIENT.gates.model_copy(
    update={
        "safety": True,
        "look_required": True,
        "judge": True,
        "judge_tokens": 8,
        "answer_tokens": 16,
        "unsafe_block": 1.0,
    }
)
"""With every gate that is off unless it is asked for, but benchmarks."""


def feedback_pair(number: int) -> FeedbackPair:
    prompt = (Message(role="user", content=f"colour {number}?"),)
    chosen, rejected = (Message(role="assistant", content=text) for text in ("blue", "red" * (1 + number % 3)))
    return FeedbackPair(
        id=f"pair_{number:04}",
        project_id="proj_1",
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        chosen=Side(message=chosen, origin="human"),
        rejected=Side(message=rejected, origin="model", release_id="rel_base"),
        weight=1.0,
        rater=Rater(id_hash="r_1", kind="annotator"),
        feedback_ids=("fb_1",),
        judged_at=datetime.fromtimestamp(NOW, UTC),
    )


async def fill(
    database: Database, model: Path, pairs: int, options: dict[str, Any], contrary_holdout: bool = False
) -> Run:
    """An alias that serves its base model, so many pairs (every fifth held out), and a queued run."""
    base = {"base": describe(model).model_dump()}
    async with database.write() as session:
        session.add(Project(id="proj_1", name="default", created_at=NOW))
        await session.flush()
        session.add(
            Alias(
                name="assistant",
                project_id="proj_1",
                base_release_id="rel_base",
                serving_release_id="rel_base",
                created_at=NOW,
                updated_at=NOW,
            )
        )
        await session.flush()
        session.add(
            ReleaseRow(
                id="rel_base",
                alias="assistant",
                name="assistant-base",
                kind="base",
                state="published",
                location=str(model),
                manifest=base,
                created_at=NOW,
            )
        )
        session.add(_vote())
        await session.flush()
        for number in range(pairs):
            pair = feedback_pair(number)
            side = "holdout" if number % 5 == 0 else "train"
            if side == "holdout" and contrary_holdout:
                pair = pair.model_copy(update={"chosen": pair.rejected, "rejected": pair.chosen})
            session.add(
                PromptSide(
                    alias="assistant",
                    prompt_hash=pair.prompt_hash,
                    side=side,
                    number=number,
                    cluster=pair.prompt_hash,
                    bridges=False,
                    signature=bytes(512),
                )
            )
            session.add(PairRow(**pair_values(pair, "assistant", "eligible", None)))
    return await queue(database, options)


async def queue(database: Database, options: dict[str, Any]) -> Run:
    async with database.write() as session:
        return await create_run(
            session,
            alias="assistant",
            trigger="manual",
            actor="key_1",
            options=TrainingOptions.model_validate(QUICK | options),
            now=NOW,
        )


def _vote() -> Feedback:
    return Feedback(
        id="fb_1",
        project_id="proj_1",
        natural_key="n",
        type="preference",
        status="active",
        revision=1,
        rater_hash="r_1",
        rater_kind="annotator",
        body={},
        target={},
        created_at=NOW,
        updated_at=NOW,
    )


async def current(database: Database, run: Run) -> Run:
    async with database.read() as session:
        found = await find_run(session, run.id)
    assert found is not None
    return found


async def aligned_releases(database: Database) -> list[ReleaseRow]:
    async with database.read() as session:
        return list(await session.scalars(select(ReleaseRow).where(ReleaseRow.kind == "aligned")))


async def eventually(true: Callable[[], Awaitable[bool]], timeout_seconds: float = 240.0) -> None:
    async with asyncio.timeout(timeout_seconds):
        while not await true():
            await asyncio.sleep(0.05)


def trainer_pids() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "alignment.jobs" in child.cmdline()]


@dataclass(frozen=True)
class Loop:
    """Two cycles of one alias, played once for all the tests that only look at what they left."""

    url: str
    store: Path
    runs: tuple[Run, Run]
    releases: tuple[ReleaseRow, ReleaseRow]


@pytest.fixture(scope="module")
def loop(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """40 pairs train a release; it is promoted; the same pairs train another one."""
    folder = tmp_path_factory.mktemp("loop")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ALIGNWAY_CACHE_DIR", str(folder / "cache"))
        environment.setenv("OMP_NUM_THREADS", "1")  # more threads only wait for each other on a model this small
        yield asyncio.run(_play_loop(tiny_model, folder))


async def _play_loop(model: Path, folder: Path) -> Loop:
    database, store = Database(f"sqlite+aiosqlite:///{folder / 'loop.db'}"), folder / "store"
    await migrate(database)
    first = await fill(database, model, 40, {"max_steps": 10})
    async with listening() as endpoint:
        endpoint.says = longer
        judge = JudgeSettings(base_url=endpoint.url, model="judge-1")
        await Worker(database, store, Rules(gates=WATCHED, judge=judge)).serve(once=True)
    (release,) = await aligned_releases(database)
    async with database.write() as session:
        (await session.get_one(Alias, "assistant")).serving_release_id = release.id
    second = await queue(database, {"max_steps": 10})
    await Worker(database, store, LENIENT).serve(once=True)
    runs = (await current(database, first), await current(database, second))
    releases = sorted(await aligned_releases(database), key=lambda row: row.id)
    await database.close()
    return Loop(database.url, store, runs, (releases[0], releases[1]))


def test_pairs_become_a_sealed_announced_release(loop: Loop, tiny_model: Path) -> None:
    run, row = loop.runs[0], loop.releases[0]
    assert (run.state, run.error, run.progress) == ("succeeded", None, 1.0)
    effort = Effort.model_validate(run.effort)  # by which the next run is foretold
    assert (effort.device, effort.steps, effort.peak_memory_bytes > 100 << 20) == ("cpu", 10, True)
    assert effort.began_at + effort.train_seconds < (run.finished_at or 0)
    assert (row.id, row.state, row.parent_id) == (run.release_id, "published", "rel_base")
    folder = loop.store / row.location
    verify_seal(folder, row.id)
    release = Release.model_validate_json((folder / "release.json").read_text())
    assert release == Release.model_validate(row.manifest)
    assert (release.run_id, release.dataset_id) == (run.id, run.dataset_id)
    assert release.metrics["holdout_accuracy"]["value"] == 1.0
    assert release.metrics["holdout_accuracy_difference"]["value"] > 0
    asked = {"artefact", "holdout_preference", "drift", "perplexity", "judge", "safety", "human_look"}
    assert {gate.gate for gate in release.gates} == asked
    verdicts = {gate.gate: (gate.verdict, gate.n) for gate in release.gates}
    assert (verdicts["safety"][1], verdicts["human_look"][0]) == (50, "warn")
    judged = next(gate for gate in release.gates if gate.gate == "judge")
    # Of the 8 held-out pairs of an annotator, "redred" and "redredred" are longer than "blue": too few, and not agreed.
    assert (judged.verdict, judged.reason[:39]) == ("pass", "does not count: 8 consistent verdicts o")
    preference = next(gate for gate in release.gates if gate.gate == "holdout_preference")
    assert (preference.n, preference.low is not None) == (8, True)


def test_a_release_holds_all_that_an_engine_needs_and_names_no_path(loop: Loop, tiny_model: Path) -> None:
    folder = loop.store / loop.releases[0].location
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {
        "adapter/adapter_model.safetensors",
        "merged/model.safetensors",
        "merged/chat_template.jinja",
        "merged/generation_config.json",
        "merged/tokenizer.json",
        "card.md",
        "training.png",
        "gates.json",
        "gates.md",
        "gates.png",
        "SEAL.json",
    } <= {path.relative_to(folder).as_posix() for path in files}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o644"}
    assert str(tiny_model) not in "".join(path.read_text() for path in (*folder.rglob("*.json"), folder / "card.md"))


async def test_the_data_set_is_frozen_with_its_card(loop: Loop) -> None:
    database = Database(loop.url)
    async with database.read() as session:
        dataset = await session.get_one(Dataset, loop.runs[0].dataset_id)
    await database.close()
    folder = loop.store / dataset.location
    held_out = [pair.model_copy(update={"weight": 1.0}) for pair in read_pairs(folder / HOLDOUT_FILE)]
    assert held_out == [feedback_pair(n) for n in range(0, 40, 5)]
    kinds = pair_kinds(folder / HOLDOUT_FILE)
    assert {pair.id for pair in read_trained(folder / HOLDOUT_FILE)} == kinds.keys()
    assert kinds["pair_0000"] == {"source": "votes", "rater": "annotator"}
    assert (dataset.card["train"]["pairs"], dataset.card["holdout"]["pairs"]) == (32, 8)
    assert json.loads((folder / "card.json").read_text()) == dataset.card


async def test_every_step_and_stage_is_an_event_in_order(loop: Loop) -> None:
    database = Database(loop.url)
    async with database.read() as session:
        events = await list_run_events(session, loop.runs[0].id)
    await database.close()
    assert [event.data["step"] for event in events if event.type == "metrics"] == list(range(1, 11))
    messages = [event.message for event in events]
    stages = ["freezing", "training", "evaluating", "merging", "publishing"]
    assert [message for message in messages if message in stages] == stages


def test_a_second_release_is_measured_against_the_first(loop: Loop) -> None:
    first, second = loop.releases
    assert (second.parent_id, second.name[-2:]) == (first.id, "-2")
    # Same pairs, same options, same seed, always from the base: the same adapter, so no difference at all.
    assert second.manifest["metrics"]["holdout_margin_difference"]["value"] == 0.0
    assert second.manifest["metrics"]["holdout_margin_incumbent"]["value"] > 0.0


def test_the_report_holds_every_limit_and_the_answers_that_changed_most(loop: Loop) -> None:
    first, second = (GateReport.model_validate_json((loop.store / row.location / REPORT_FILE).read_text())
                     for row in loop.releases)  # fmt: skip
    assert (first.release, first.compared_with, first.verdict) == (loop.releases[0].id, "rel_base", "warn")
    preference = next(gate for gate in first.gates if gate.gate == "holdout_preference")
    assert {limit.name for limit in preference.limits if limit.crossed} == {"pairs"}
    assert (preference.n, len(preference.limits)) == (8, 7)
    shares = [answer.changed_share for answer in first.changed_answers]
    assert shares
    assert shares == sorted(shares, reverse=True)
    assert second.changed_answers == ()  # the same adapter: every answer reads as before


async def test_limits_are_calibrated_on_what_was_made_and_on_trainings_that_differ_in_their_seed(loop: Loop) -> None:
    command = [sys.executable, "-m", "alignment.calibration", "--store", str(loop.store), "--alias", "assistant"]
    environment = os.environ | {"ALIGNWAY_DATABASE_URL": loop.url}
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--draws", "20", "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = Calibration.model_validate_json(done.stdout)
    limits = {
        (one.gate, one.name): one for one in found.limits if one.level == "block" or one.name in ("gain", "pairs")
    }
    # The second release is the first one's twin to the last bit: nothing scatters.
    drop, gain = limits["holdout_preference", "drop"], limits["holdout_preference", "gain"]
    assert (drop.false_alarm_share, gain.false_alarm_share) == (0.0, 1.0)
    assert (drop.smallest_effect, gain.smallest_effect) == (pytest.approx(0.05), 0.0)
    assert limits["holdout_preference", "pairs"].smallest_effect is None
    assert (found.how, found.holdout_pairs) == ("exchanged", 8)
    told: list[str] = []
    database = Database(loop.url)
    twins = await calibrate(database, loop.store, Asked("assistant", seeds=2, draws=20), GateSettings(), told.append)
    assert twins.how == "seeds"
    assert [line for line in told if line.startswith("training")][1].startswith("training with seed 1 on ds_")
    assert not list((loop.store / "calibration" / "assistant").glob("seed-*"))
    async with database.read() as session:
        assert await find_calibration(session, "assistant") == twins  # the newest
    with pytest.raises(AlignmentError, match="alignway gates calibrate --seeds 2"):
        await calibrate(database, loop.store, Asked("nobody", draws=20), GateSettings(), told.append)
    await database.close()


async def test_too_few_pairs_fail_with_what_to_do(database: Database, store: Path, tiny_model: Path) -> None:
    run = await fill(database, tiny_model, 19, {})
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert run.state == "failed"
    assert run.error is not None
    assert "has 19 pairs to use, and a run needs at least 20 (19 candidate pairs from votes" in run.error
    assert "collect more feedback" in run.error
    assert not await aligned_releases(database)


async def test_a_candidate_that_a_gate_blocks_is_recorded_as_rejected(
    database: Database, store: Path, tiny_model: Path
) -> None:
    # What is held out prefers the other side, so the better it learns, the worse it does.
    run = await fill(database, tiny_model, 40, {"max_steps": 10}, contrary_holdout=True)
    await Worker(database, store).serve(once=True)
    (row,) = await aligned_releases(database)
    assert row.state == "rejected"
    verdicts = {gate["gate"]: gate["verdict"] for gate in row.manifest["gates"]}
    assert verdicts["holdout_preference"] == "block"
    assert (await current(database, run)).state == "succeeded"


async def test_a_killed_trainer_is_resumed_and_ends_in_exactly_one_release(
    database: Database, store: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.worker._RETRY_SECONDS", 0.1)
    run = await fill(database, tiny_model, 40, {"epochs": 10, "max_steps": 60})
    serving = asyncio.create_task(Worker(database, store).serve())

    async def trained_a_little() -> bool:
        metrics = store / "runs" / run.id / "metrics.jsonl"
        return metrics.is_file() and len(metrics.read_text().splitlines()) >= 4

    async def ended() -> bool:
        return (await current(database, run)).state in ("succeeded", "failed")

    await eventually(trained_a_little)
    (pid,) = trainer_pids()
    os.kill(pid, signal.SIGKILL)
    await eventually(ended)
    serving.cancel()
    run = await current(database, run)
    assert (run.state, run.attempts) == ("succeeded", 2)
    (row,) = await aligned_releases(database)
    verify_seal(store / row.location, row.id)
    async with database.read() as session:
        messages = [event.message for event in await list_run_events(session, run.id)]
    assert any("the training process was killed during train" in message for message in messages)
    assert sum("froze" in message for message in messages) == 1


async def test_a_run_whose_trainer_always_dies_is_given_up_with_the_reason(
    database: Database, store: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.worker._RETRY_SECONDS", 0.0)
    monkeypatch.setattr("alignment.jobs.client.sys.executable", "/bin/false")
    run = await fill(database, tiny_model, 40, {})
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.attempts) == ("failed", 5)
    assert run.error is not None
    assert run.error.startswith("given up after 5 attempts: the training process ended with status 1 during train")


async def test_a_cancelled_run_stops_and_leaves_nothing(database: Database, store: Path, tiny_model: Path) -> None:
    run = await fill(database, tiny_model, 40, {"epochs": 500})
    serving = asyncio.create_task(Worker(database, store).serve())

    async def training() -> bool:
        return (store / "runs" / run.id / "metrics.jsonl").is_file()

    async def ended() -> bool:
        return (await current(database, run)).state == "cancelled"

    await eventually(training)
    async with database.write() as session:
        found = await find_run(session, run.id)
        assert found is not None
        await request_cancel(session, found, NOW)
    await eventually(ended)
    serving.cancel()
    assert not await aligned_releases(database)
    assert not list(store.glob("releases/assistant/*"))


async def test_a_stopped_aligner_gives_its_run_back_behind_a_checkpoint(
    database: Database, store: Path, tiny_model: Path
) -> None:
    run = await fill(database, tiny_model, 40, {"epochs": 10, "max_steps": 40})
    worker = Worker(database, store)
    serving = asyncio.create_task(worker.serve())

    async def trained_a_little() -> bool:
        metrics = store / "runs" / run.id / "metrics.jsonl"
        return metrics.is_file() and len(metrics.read_text().splitlines()) >= 3

    await eventually(trained_a_little)
    worker.stopping.set()
    await serving
    assert (await current(database, run)).attempts == 0
    (checkpoint,) = (store / "runs" / run.id).glob("checkpoint-*")
    assert (checkpoint / "SEAL.json").is_file()
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.attempts) == ("succeeded", 1)
    assert len(await aligned_releases(database)) == 1


async def test_a_release_cut_off_before_its_announcement_is_announced_not_made_again(
    database: Database, store: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.worker._RETRY_SECONDS", 0.0)
    run = await fill(database, tiny_model, 40, {"max_steps": 4})

    async def lost_power(*_: Any) -> None:
        raise RuntimeError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr("alignment.cycle.announce", lost_power)
        assert await Worker(database, store).work_once()
    away = Rules(bucket=Bucket("file:///dev/null/away", pause_seconds=0.0))
    assert await Worker(database, store, away).work_once()
    assert "file:///dev/null/away cannot be used" in ((await current(database, run)).error or "")
    (folder,) = (store / "releases" / "assistant").iterdir()
    sealed = (folder / "SEAL.json").read_bytes()
    assert not await aligned_releases(database)
    bucket = Bucket(f"file://{tmp_path / 'bucket'}")
    await Worker(database, store, Rules(bucket=bucket)).serve(once=True)
    (row,) = await aligned_releases(database)
    assert (row.id, store / row.location) == ((await current(database, run)).release_id, folder)
    assert (folder / "SEAL.json").read_bytes() == sealed
    bucket.fetch(row.location, tmp_path / "elsewhere" / row.id, row.id, 0)
    assert (tmp_path / "elsewhere" / row.id / "SEAL.json").read_bytes() == sealed
