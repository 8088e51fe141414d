"""Nothing reaches an engine that is not exactly what was sealed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.agent.releases import Fit, NoSuchAdapter, ReleaseFetcher, ReleaseLookup, ReleaseUnusable
from gateway.contracts.release import DerivedAdapter
from gateway.contracts.seal import SEAL_FILE, verify_seal, write_seal
from gateway.storage.tables import ReleaseRow
from tests.adapters import write_base, write_lora
from tests.gateway.agent.lab import BASE, RANK, Lab, manifest

RELEASE = "rel_test"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one whole release."""
    seal(tmp_path / "store")
    return tmp_path / "store"


def seal(store: Path, extra: str | None = None) -> None:
    folder = store / RELEASE
    write_base(folder / "merged")
    (folder / "merged" / "config.json").write_text("{}")
    write_lora(folder / "adapter", RANK)
    (folder / "release.json").write_text(manifest(RELEASE).model_dump_json())
    if extra:
        (folder / "adapter" / extra).write_bytes(b"x")
    write_seal(folder, RELEASE)


def row(location: str = RELEASE, kind: str = "aligned") -> ReleaseRow:
    fields = {"base_release_id": OVER.id, "manifest": {}, "adapter_rank": RANK}
    return ReleaseRow(id=RELEASE, name="assistant-20260101-1", kind=kind, location=location, **fields)


FIT = Fit(BASE.weights_sha256, None)
OVER = ReleaseRow(id="rel_base", name="assistant-20260101-0", kind="base", location="/base", manifest={})


async def test_whole_release_is_handed_out(store: Path) -> None:
    fetcher = ReleaseFetcher(store)
    assert await fetcher.weights(row(), FIT) == store / RELEASE / "merged"
    assert await fetcher.adapter(row(), OVER, FIT) == store / RELEASE / "adapter"


async def test_the_adapter_handed_out_is_the_one_over_the_weights_that_are_held(store: Path) -> None:
    folder = store / RELEASE
    link = DerivedAdapter(incumbent_id="rel_x", rank=2 * RANK)
    for part in ("difference", "reverse"):
        write_lora(folder / part, link.rank)
    sealed = manifest(RELEASE).model_copy(update={"difference": link, "reverse": link})
    (folder / "release.json").write_text(sealed.model_dump_json())
    write_seal(folder, RELEASE)
    fetcher, release = ReleaseFetcher(store), row()
    incumbent = ReleaseRow(id="rel_x", name="x", kind="aligned", location="gone", base_release_id=OVER.id, manifest={})
    with pytest.raises(NoSuchAdapter):
        await fetcher.adapter(release, incumbent, FIT)
    release.manifest = sealed.model_dump(mode="json")
    assert await fetcher.adapter(release, OVER, FIT) == folder / "adapter"
    assert await fetcher.adapter(release, incumbent, FIT) == folder / "difference"
    assert await fetcher.adapter(incumbent, release, FIT) == folder / "reverse"


def flipped(folder: Path) -> bytes:
    """The weights with one byte changed."""
    right = (folder / "merged" / "model.safetensors").read_bytes()
    return right[:-1] + bytes([right[-1] ^ 1])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed bytes": lambda folder: (folder / "merged" / "model.safetensors").write_bytes(flipped(folder)),
    "cut short": lambda folder: (folder / "merged" / "model.safetensors").write_bytes(b"weig"),
    "file gone": lambda folder: (folder / "merged" / "model.safetensors").unlink(),
    "file added": lambda folder: (folder / "adapter" / "more.json").write_text("{}"),
    "no seal": lambda folder: (folder / SEAL_FILE).unlink(),
    "half a seal": lambda folder: (folder / SEAL_FILE).write_text((folder / SEAL_FILE).read_text()[:40]),
    "seal of no object": lambda folder: (folder / SEAL_FILE).write_text("[]"),
    "never finished": lambda folder: (folder / SEAL_FILE).rename(folder / (SEAL_FILE + ".part")),
    "another's seal": lambda folder: write_seal(folder, "rel_other"),
    "folder gone": lambda folder: folder.rename(folder.with_name("moved")),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damaged_release_is_refused_with_what_to_do(store: Path, kind: str) -> None:
    DAMAGE[kind](store / RELEASE)
    with pytest.raises(ReleaseUnusable, match="alignway releases list"):
        await ReleaseFetcher(store).weights(row(), FIT)


async def test_release_is_read_through_once_until_a_file_of_it_changes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def verify(folder: Path, release_id: str) -> None:
        read.append(release_id)
        verify_seal(folder, release_id)

    monkeypatch.setattr("gateway.agent.releases.verify_seal", verify)
    fetcher = ReleaseFetcher(store)
    await fetcher.adapter(row(), OVER, FIT)
    await fetcher.weights(row(), FIT)
    assert read == [RELEASE]
    weights = store / RELEASE / "merged" / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(flipped(store / RELEASE))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(ReleaseUnusable, match="differs from what was sealed"):
            await fetcher.weights(row(), FIT)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pickle.pkl", "code.py", "old.pt"])
async def test_sealed_files_that_can_run_code_are_refused(tmp_path: Path, name: str) -> None:
    seal(tmp_path, extra=name)
    with pytest.raises(ReleaseUnusable, match="can run code"):
        await ReleaseFetcher(tmp_path).adapter(row(), OVER, FIT)


async def test_release_outside_the_store_is_refused(store: Path, tmp_path: Path) -> None:
    seal(tmp_path / "other")
    with pytest.raises(ReleaseUnusable, match="outside the release store"):
        await ReleaseFetcher(store).weights(row(f"../other/{RELEASE}"), FIT)


async def test_base_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseUnusable, match="no config"):
        await ReleaseFetcher(tmp_path).weights(row(str(tmp_path), kind="base"), FIT)


async def test_the_way_back_to_the_base_is_the_reverse_adapter_of_what_serves(lab: Lab) -> None:
    release_id = await lab.release("one")
    folder, link = lab.store / release_id, DerivedAdapter(incumbent_id=lab.base_id, rank=RANK)
    write_lora(folder / "reverse", RANK)
    sealed = manifest(release_id).model_copy(update={"reverse": link})
    (folder / "release.json").write_text(sealed.model_dump_json())
    write_seal(folder, release_id)
    async with lab.database.write() as session:
        (await session.get_one(ReleaseRow, release_id)).manifest = sealed.model_dump(mode="json")
    releases = ReleaseLookup(lab.database, ReleaseFetcher(lab.store))
    assert await releases.adapter(lab.base_id, release_id, RANK) == folder / "reverse"
    with pytest.raises(ReleaseUnusable, match=f"max_adapter_rank = {RANK}"):
        await releases.adapter(lab.base_id, release_id, RANK - 1)
