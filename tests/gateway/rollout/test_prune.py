"""Old releases lose their weights; nothing that serves, may serve again, or is pinned does."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from gateway.errors import Conflict
from gateway.privacy.housekeeper import Housekeeper
from gateway.rollout.disk import NotEnoughDisk, require_room
from gateway.rollout.prune import Keeping, prune
from gateway.settings import Settings
from gateway.storage.audit import KEEPER, list_audit
from gateway.storage.tables import ReleaseRow
from gateway.telemetry.metrics import Metrics
from tests.gateway.agent.lab import manifest
from tests.gateway.rollout.served import ALIAS, Served


async def aged(served: Served, store: Path, number: int) -> None:
    """So many more releases, `rel_000` the oldest, each of 300 bytes of weights."""
    async with served.database.write() as session:
        for index in range(number):
            name = f"rel_{index:03}"
            session.add(
                ReleaseRow(id=name, alias=ALIAS, name=f"{ALIAS}-{name}", kind="aligned", state="published",
                           location=name, adapter_rank=16, base_release_id="rel_base",
                           manifest=manifest(name).model_dump(mode="json"),
                           created_at=1000.0 + index)
            )  # fmt: skip
            for part, size in (("merged", 200), ("adapter", 100)):
                (store / name / part).mkdir(parents=True)
                (store / name / part / "weights.safetensors").write_bytes(bytes(size))
            for file in ("SEAL.json", "card.md", "release.json"):
                (store / name / file).write_text("x")


async def row(served: Served, release_id: str) -> ReleaseRow:
    async with served.database.read() as session:
        return await session.get_one(ReleaseRow, release_id)


def whole(store: Path) -> list[str]:
    return sorted(folder.name for folder in store.iterdir() if (folder / "merged").is_dir())


async def test_all_but_the_newest_go_and_their_cards_stay(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 5)
    gone = await prune(served.database, Keeping(tmp_path, 2), "me", 2000.0)
    assert [(one.id, one.size_bytes) for one in gone] == [("rel_002", 300), ("rel_001", 300), ("rel_000", 300)]
    assert whole(tmp_path) == ["rel_003", "rel_004"]
    assert sorted(path.name for path in (tmp_path / "rel_000").iterdir()) == ["card.md", "release.json"]
    pruned = await row(served, "rel_000")
    assert (pruned.state, pruned.pruned_at) == ("retired", 2000.0)
    assert await prune(served.database, Keeping(tmp_path, 2), "me", 2001.0) == []
    with pytest.raises(Conflict, match="were removed to save room"):
        await served.promote("rel_000")


async def test_a_dry_run_only_says_what_would_go(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 3)
    gone = await prune(served.database, Keeping(tmp_path, 1), "me", 2000.0, dry_run=True)
    assert [one.id for one in gone] == ["rel_001", "rel_000"]
    assert len(whole(tmp_path)) == 3
    assert (await row(served, "rel_000")).pruned_at is None


async def test_what_serves_what_it_can_go_back_to_and_what_is_pinned_is_kept(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 7)
    for release_id in ("rel_000", "rel_001"):
        await served.promote(release_id)
        await served.settle()
    await served.promote("rel_002")  # an open rollout
    async with served.database.write() as session:
        (await session.get_one(ReleaseRow, "rel_003")).pinned = True
    gone = await prune(served.database, Keeping(tmp_path, 1), "me", 2000.0)
    assert [one.id for one in gone] == ["rel_005", "rel_004"]
    assert whole(tmp_path) == ["rel_000", "rel_001", "rel_002", "rel_003", "rel_006"]


async def test_the_way_back_is_kept_while_the_serving_release_is_the_newest(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 4)
    for release_id in ("rel_000", "rel_003"):
        await served.promote(release_id)
        await served.settle()
    await prune(served.database, Keeping(tmp_path, 1), "me", 2000.0)
    assert whole(tmp_path) == ["rel_000", "rel_003"]


async def test_files_left_by_a_kill_between_record_and_disk_go_at_the_next_look(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 2)
    async with served.database.write() as session:
        (await session.get_one(ReleaseRow, "rel_000")).pruned_at = 1500.0
    await prune(served.database, Keeping(tmp_path, 5), "me", 2000.0)
    assert whole(tmp_path) == ["rel_001"]


async def test_the_housekeeper_prunes_by_itself(served: Served, tmp_path: Path) -> None:
    await aged(served, tmp_path, 4)
    settings = Settings.model_validate(
        {"models": [{"model": "test"}], "store": {"path": tmp_path}, "releases": {"keep": 3}}
    )
    await Housekeeper(served.database, settings, "gw_1", Metrics()).step(2000.0)
    assert whole(tmp_path) == ["rel_001", "rel_002", "rel_003"]
    async with served.database.read() as session:
        audited = [one.row for one in await list_audit(session, 10, action="release.pruned")]
    assert [(entry.actor, entry.subject) for entry in audited] == [(KEEPER, "rel_000")]


def test_a_promotion_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 99 << 20))
    require_room(tmp_path / "not" / "made", 99)
    with pytest.raises(NotEnoughDisk, match=r"99 MiB free, and 100 MiB are needed.*alignway releases prune"):
        require_room(tmp_path, 100)
