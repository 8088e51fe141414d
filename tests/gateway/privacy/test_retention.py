"""What is too old goes, in small transactions; what is used, or young, or a pair, stays."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.contracts.pair import FeedbackPair
from gateway.datasets.collect import collect
from gateway.privacy.housekeeper import Housekeeper
from gateway.privacy.retention import purge, purge_is_due, retention_view
from gateway.privacy.turns import turn
from gateway.settings import DatasetSettings, RetentionSettings, Settings
from gateway.storage import retention as rows
from gateway.storage.feedback_tables import Completion, Dataset, Feedback, PairRow
from gateway.storage.leases import take_lease
from gateway.storage.privacy_tables import Erasure
from gateway.storage.stored import find_stored
from gateway.storage.tables import AuditEntry, ReleaseRow
from gateway.telemetry.metrics import Metrics
from tests.gateway.privacy.conftest import DAY, Place

NOW = time.time()


async def purged(place: Place, now: float = NOW, **settings: Any) -> dict[str, int]:
    return await purge(place.database, place.store, RetentionSettings(**settings), now)


async def test_a_completion_without_a_vote_is_kept_30_days_and_with_one_180(place: Place) -> None:
    young = await place.complete("amy", "young", created_at=NOW - 29 * DAY)
    await place.complete("amy", "old", created_at=NOW - 31 * DAY)
    voted = [await place.complete("amy", text, created_at=NOW - 179 * DAY) for text in ("voted yes", "voted no")]
    ancient = [await place.complete("amy", text, created_at=NOW - 181 * DAY) for text in ("ancient yes", "ancient no")]
    await place.prefer("bob", *voted)
    await place.prefer("bob", *ancient)
    deleted = await purged(place)
    assert (deleted["completions"], deleted["voted_completions"]) == (1, 2)
    assert sorted(await place.rows(Completion)) == sorted([young, *voted])


async def test_a_pair_outlives_its_chat_and_still_trains(place: Place) -> None:
    answers = [await place.complete("amy", text, "很久以前的问题", created_at=NOW - 181 * DAY) for text in ("是", "否")]
    vote = await place.prefer("bob", *answers)
    assert (await purged(place))["voted_completions"] == 2
    assert await place.rows(Completion) == []
    assert await place.rows(Feedback) == [vote]
    async with place.database.read() as session:
        assert await find_stored(session, "proj_1", answers[0]) is None  # what the routes answer 404 by
    kept: list[FeedbackPair] = []
    await collect(
        place.database,
        "assistant",
        DatasetSettings(),
        sink=lambda body, _: kept.append(FeedbackPair.model_validate(body)),
    )
    assert [(pair.prompt[0].text, pair.chosen.message.text) for pair in kept] == [("很久以前的问题", "是")]


async def test_batches_are_bounded_and_the_run_goes_on_to_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        await place.complete(None, str(number), created_at=NOW - 31 * DAY)
    sizes = []
    delete_completions = rows.delete_completions

    async def spied(session: Any, ids: Any) -> int:
        sizes.append(len(ids))
        return await delete_completions(session, ids)

    monkeypatch.setattr(rows, "delete_completions", spied)
    assert (await purged(place, batch_rows=3))["completions"] == 7
    assert [size for size in sizes if size] == [3, 3, 1]


async def test_zero_keeps_for_good(place: Place) -> None:
    await place.complete(None, "old", created_at=1.0)
    deleted = await purged(place, completions_days=0, voted_completions_days=0, audit_days=0, datasets_days=0)
    assert set(deleted.values()) == {0}
    assert len(await place.rows(Completion)) == 1


async def test_the_audit_log_is_kept_a_year(place: Place) -> None:
    async with place.database.write() as session:
        for id_, days in (("audit_old", 366), ("audit_young", 364)):
            session.add(AuditEntry(id=id_, actor="a", action="b", subject="c", detail={}, at=NOW - days * DAY))
    assert (await purged(place))["audit"] == 1
    assert await place.rows(AuditEntry) == ["audit_young"]


async def test_a_data_set_is_kept_while_a_release_trained_on_it_can_serve_and_90_days_more(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    folder = await place.freeze("ds_1")
    await place.release("rel_1", "ds_1", state="published")
    assert (await purged(place, NOW + 365 * DAY))["datasets"] == 0
    async with place.database.write() as session:
        (await session.get_one(ReleaseRow, "rel_1")).state = "rejected"
    assert (await purged(place, NOW + 400 * DAY))["datasets"] == 0
    assert (await place.dataset("ds_1")).unused_since == NOW + 400 * DAY
    assert (await purged(place, NOW + 489 * DAY))["datasets"] == 0
    assert folder.exists()
    assert (await purged(place, NOW + 491 * DAY))["datasets"] == 1
    assert not folder.exists()
    assert (await place.dataset("ds_1")).removed_at == NOW + 491 * DAY
    assert await place.rows(Dataset) == ["ds_1"]


async def test_a_data_set_that_is_used_again_starts_anew(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.freeze("ds_1")
    await purged(place)
    assert (await place.dataset("ds_1")).unused_since == NOW
    await place.release("rel_1", "ds_1")
    await purged(place, NOW + DAY)
    assert (await place.dataset("ds_1")).unused_since is None


async def test_the_last_run_and_its_counts_are_seen(place: Place) -> None:
    await place.complete(None, "old", created_at=NOW - 31 * DAY)
    settings = RetentionSettings()
    async with place.database.read() as session:
        before = await retention_view(session, settings)
    assert before["data"][0] == {
        "kind": "completions", "kept_seconds": 30 * 86400, "last_run_at": None, "last_deleted": 0, "deleted": 0
    }  # fmt: skip
    await purged(place)
    await purged(place, NOW + 60)
    async with place.database.read() as session:
        after = await retention_view(session, settings)
    assert after["data"][0] == {
        "kind": "completions", "kept_seconds": 30 * 86400, "last_run_at": int(NOW + 60), "last_deleted": 0, "deleted": 1
    }  # fmt: skip


async def test_a_purge_is_due_once_an_hour_whoever_restarts(place: Place) -> None:
    async def due(now: float) -> bool:
        async with place.database.read() as session:
            return await purge_is_due(session, RetentionSettings(), now)

    assert await due(NOW)
    await purged(place)
    assert not await due(NOW + 3599)
    assert await due(NOW + 3600)


async def test_the_job_erases_purges_and_looks_again(place: Place, tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "store": {"path": place.store}})
    metrics = Metrics()
    housekeeper = Housekeeper(place.database, settings, "gw_1", metrics)
    await place.complete(None, "old", created_at=NOW - 31 * DAY)
    await place.chat_and_vote("amy", "is it safe?")
    asked = await place.request("amy")
    await housekeeper.step(NOW)
    assert await place.rows(Completion) == await place.rows(Feedback) == await place.rows(PairRow) == []
    await place.chat_and_vote("amy", "is it late?")
    await housekeeper.step(time.time() + 61)
    assert await place.rows(Completion) == []
    async with place.database.read() as session:
        erasure = await session.scalar(select(Erasure).where(Erasure.id == asked.id))
    assert erasure is not None
    assert erasure.state == "done"
    assert erasure.checked_at is not None
    exposed = (await metrics.exposition()).decode().splitlines()
    assert 'alignway_retention_deleted_total{kind="completions"} 1' in exposed
    assert f"alignway_retention_last_run_timestamp_seconds {int(NOW)}" in exposed


async def test_one_process_works_at_a_time(place: Place, tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "store": {"path": place.store}})
    await place.complete("amy", "hi")
    await place.request("amy")
    async with turn(place.database, "gw_2") as theirs:
        assert theirs
        await Housekeeper(place.database, settings, "gw_1", Metrics()).step(NOW)
        assert len(await place.rows(Completion)) == 1
    await Housekeeper(place.database, settings, "gw_1", Metrics()).step(NOW)
    assert await place.rows(Completion) == []
    async with place.database.write() as session:
        assert await take_lease(session, "privacy", "gw_3", 1.0, NOW) is not None  # it was given back


async def test_an_erasure_is_begun_at_once_though_all_else_is_looked_for_seldom(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.privacy.housekeeper.LOOK_SECONDS", 0.01)
    settings = Settings.model_validate({"data_dir": tmp_path, "store": {"path": place.store}})
    housekeeper = Housekeeper(place.database, settings, "gw_1", Metrics())
    looks: list[float] = []

    async def look(now: float) -> None:
        looks.append(now)

    monkeypatch.setattr(housekeeper, "step", look)
    running = asyncio.create_task(housekeeper.run())
    try:
        await asyncio.sleep(0.5)  # fifty turns of the job
        assert len(looks) == 1
        await place.request("amy")
        async with asyncio.timeout(5):
            while len(looks) < 3:  # and again until it is done
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
