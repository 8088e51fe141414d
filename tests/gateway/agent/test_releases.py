"""Nothing reaches an engine that is not exactly what was sealed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.agent.releases import NoSuchAdapter, ReleaseFetcher, ReleaseUnusable
from gateway.contracts.seal import SEAL_FILE, verify_seal, write_seal
from gateway.storage.tables import ReleaseRow

RELEASE = "rel_test"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one whole release."""
    seal(tmp_path / "store")
    return tmp_path / "store"


def seal(store: Path, extra: str | None = None) -> None:
    folder = store / RELEASE
    (folder / "merged").mkdir(parents=True)
    (folder / "adapter").mkdir()
    (folder / "merged" / "model.safetensors").write_bytes(b"weights")
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    if extra:
        (folder / "adapter" / extra).write_bytes(b"x")
    write_seal(folder, RELEASE)


def row(location: str = RELEASE, kind: str = "aligned") -> ReleaseRow:
    fields = {"base_release_id": BASE.id, "manifest": {}}
    return ReleaseRow(id=RELEASE, name="assistant-20260101-1", kind=kind, location=location, **fields)


BASE = ReleaseRow(id="rel_base", name="assistant-20260101-0", kind="base", location="/base", manifest={})


async def test_whole_release_is_handed_out(store: Path) -> None:
    fetcher = ReleaseFetcher(store)
    assert await fetcher.weights(row()) == store / RELEASE / "merged"
    assert await fetcher.adapter(row(), BASE) == store / RELEASE / "adapter"


async def test_the_adapter_handed_out_is_the_one_over_the_weights_that_are_held(store: Path) -> None:
    folder = store / RELEASE
    for part in ("difference", "reverse"):
        (folder / part).mkdir()
        (folder / part / "adapter_config.json").write_text("{}")
    write_seal(folder, RELEASE)
    fetcher, release = ReleaseFetcher(store), row()
    incumbent = ReleaseRow(id="rel_x", name="x", kind="aligned", location="gone", base_release_id=BASE.id, manifest={})
    with pytest.raises(NoSuchAdapter):
        await fetcher.adapter(release, incumbent)
    link = {"incumbent_id": "rel_x", "rank": 32}
    release.manifest = {"difference": link, "reverse": link}
    assert await fetcher.adapter(release, BASE) == folder / "adapter"
    assert await fetcher.adapter(release, incumbent) == folder / "difference"
    assert await fetcher.adapter(incumbent, release) == folder / "reverse"


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed bytes": lambda folder: (folder / "merged" / "model.safetensors").write_bytes(b"wEights"),
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
        await ReleaseFetcher(store).weights(row())


async def test_release_is_read_through_once_until_a_file_of_it_changes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def verify(folder: Path, release_id: str) -> None:
        read.append(release_id)
        verify_seal(folder, release_id)

    monkeypatch.setattr("gateway.agent.releases.verify_seal", verify)
    fetcher = ReleaseFetcher(store)
    await fetcher.adapter(row(), BASE)
    await fetcher.weights(row())
    assert read == [RELEASE]
    weights = store / RELEASE / "merged" / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"wEights")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(ReleaseUnusable, match="differs from what was sealed"):
            await fetcher.weights(row())


@pytest.mark.parametrize("name", ["adapter_model.bin", "pickle.pkl", "code.py", "old.pt"])
async def test_sealed_files_that_can_run_code_are_refused(tmp_path: Path, name: str) -> None:
    seal(tmp_path, extra=name)
    with pytest.raises(ReleaseUnusable, match="can run code"):
        await ReleaseFetcher(tmp_path).adapter(row(), BASE)


async def test_release_outside_the_store_is_refused(store: Path, tmp_path: Path) -> None:
    seal(tmp_path / "other")
    with pytest.raises(ReleaseUnusable, match="outside the release store"):
        await ReleaseFetcher(store).weights(row(f"../other/{RELEASE}"))


async def test_base_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseUnusable, match="no config"):
        await ReleaseFetcher(tmp_path).weights(row(str(tmp_path), kind="base"))
