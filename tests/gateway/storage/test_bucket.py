"""Releases in an S3 bucket, on a real local server: whole and verified, or not there at all."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.agent.cache import ReleaseCache
from gateway.agent.releases import Fit, ReleaseFetcher, ReleaseUnusable
from gateway.contracts.seal import SEAL_FILE, BrokenSeal, verify_seal, write_seal
from gateway.rollout.prune import Keeping
from gateway.storage import bucket as bucket_module
from gateway.storage.bucket import FETCH_PREFIX, Bucket, BucketAway
from gateway.storage.tables import ReleaseRow
from tests.adapters import write_base, write_lora
from tests.gateway.agent.lab import BASE, RANK, manifest

moto = pytest.importorskip("moto.server", reason="the S3 server of the tests: make install")
pytest.importorskip("s3fs")
FIT = Fit(BASE.weights_sha256, None)
OVER = ReleaseRow(id="rel_base")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with the bucket `models`."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        files, _ = Bucket("s3://models", endpoint)._open()
        files.mkdir("models")
        yield endpoint
        server.stop()


@pytest.fixture
def bucket(s3: str, tmp_path: Path) -> Bucket:
    """A prefix of the bucket that no other test uses."""
    return Bucket(f"s3://models/{tmp_path.name}", s3, pause_seconds=0.01)


def location(number: int = 1) -> str:
    return f"releases/assistant/rel_{number}"


def made(folder: Path, number: int = 1) -> Path:
    """A sealed release of some machine that makes them."""
    release = folder / location(number)
    write_base(release / "merged")
    (release / "merged" / "config.json").write_text("{}")
    (release / "merged" / "large.txt").write_bytes(bytes(range(256)) * 1000)
    write_lora(release / "adapter", RANK)
    (release / "release.json").write_text(manifest(f"rel_{number}").model_dump_json())
    write_seal(release, f"rel_{number}")
    return release


def objects(bucket: Bucket, number: int = 1) -> list[str]:
    files, root = bucket._open()
    place = f"{root}/{location(number)}"
    return sorted(name.removeprefix(f"{place}/") for name in files.find(place))


def row(number: int = 1) -> ReleaseRow:
    own = {"id": f"rel_{number}", "name": f"assistant-{number}", "location": location(number)}
    return ReleaseRow(kind="aligned", base_release_id=OVER.id, adapter_rank=RANK, **own)


def test_what_is_uploaded_is_fetched_whole_and_verified(bucket: Bucket, tmp_path: Path) -> None:
    release = made(tmp_path / "here")
    bucket.upload(release, location())
    there = tmp_path / "there" / location()
    bucket.fetch(location(), there, "rel_1", 0)
    verify_seal(there, "rel_1")
    assert (there / "merged" / "large.txt").read_bytes() == (release / "merged" / "large.txt").read_bytes()
    assert [path.name for path in there.parent.iterdir() if path.name.startswith(FETCH_PREFIX + "rel")] == []


def test_the_seal_is_uploaded_last_so_an_upload_cut_off_is_no_release(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = made(tmp_path / "here")
    put, done = Bucket._put, []

    def put_three(self: Bucket, path: Path, place: str) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(place)
        put(self, path, place)

    with monkeypatch.context() as cut:
        cut.setattr(Bucket, "_put", put_three)
        with pytest.raises(KeyboardInterrupt):
            bucket.upload(release, location())
    assert len(objects(bucket)) == 3
    assert not bucket.holds(location())
    with pytest.raises(BrokenSeal, match="never finished"):
        bucket.fetch(location(), tmp_path / "there" / "rel_1", "rel_1", 0)
    bucket.upload(release, location())
    assert bucket.holds(location())
    assert SEAL_FILE in objects(bucket)


def test_a_fetch_that_was_cut_off_goes_on_where_it_was(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload(made(tmp_path / "here"), location())
    monkeypatch.setattr(bucket_module, "BLOCK_BYTES", 100_000)
    read, starts = Bucket._read, list[int]()

    def read_until_cut(self: Bucket, place: str, end: int, start: int = 0) -> bytes:
        if place.endswith("large.txt"):
            if starts == [0, 100_000]:
                raise KeyboardInterrupt
            starts.append(start)
        return read(self, place, end, start)

    there = tmp_path / "there" / location()
    with monkeypatch.context() as cut:
        cut.setattr(Bucket, "_read", read_until_cut)
        with pytest.raises(KeyboardInterrupt):
            bucket.fetch(location(), there, "rel_1", 0)
        assert not there.exists()
        partial = there.with_name(FETCH_PREFIX + "rel_1") / "merged" / "large.txt"
        assert partial.stat().st_size == 200_000
        starts[:] = [-1]
        bucket.fetch(location(), there, "rel_1", 0)
    assert starts == [-1, 200_000]
    verify_seal(there, "rel_1")


def test_bytes_that_changed_in_the_bucket_are_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(made(tmp_path / "here"), location())
    files, root = bucket._open()
    files.pipe_file(f"{root}/{location()}/merged/large.txt", bytes(256_000))
    with pytest.raises(BrokenSeal, match=r"large\.txt differs from what was sealed"):
        bucket.fetch(location(), tmp_path / "there" / "rel_1", "rel_1", 0)
    assert not (tmp_path / "there" / "rel_1").exists()


@pytest.mark.parametrize("name", ["../../evil.txt", "/etc/evil", "a/../../b", "..\\evil"])
def test_a_seal_that_names_files_outside_the_release_is_refused(bucket: Bucket, tmp_path: Path, name: str) -> None:
    release = made(tmp_path / "here")
    seal = (release / SEAL_FILE).read_text()
    (release / SEAL_FILE).write_text(seal.replace("merged/large.txt", name.replace("\\", "\\\\")))
    bucket.upload(release, location())
    with pytest.raises(BrokenSeal, match="outside the release"):
        bucket.fetch(location(), tmp_path / "there" / "rel_1", "rel_1", 0)


def test_a_release_that_does_not_fit_on_the_disk_is_not_begun(bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(made(tmp_path / "here"), location())
    with pytest.raises(BrokenSeal, match=r"not_enough_disk.*alignway releases prune"):
        bucket.fetch(location(), tmp_path / "there" / "rel_1", "rel_1", 1 << 60)


def test_a_server_that_is_away_is_asked_again_then_named(tmp_path: Path, s3: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = Bucket("s3://models/x", f"http://127.0.0.1:{nobody.getsockname()[1]}", pause_seconds=0.0)
        with pytest.raises(BucketAway, match="s3://models/x cannot be used"):
            away.holds("any")


async def test_the_agent_fetches_what_it_lacks_and_renews_what_is_damaged(bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(made(tmp_path / "here"), location())
    store = tmp_path / "there"
    fetcher = ReleaseFetcher(store, ReleaseCache(bucket, 5, 0))
    adapter = await fetcher.adapter(row(), OVER, FIT)
    assert adapter == store / location() / "adapter"
    (adapter / "adapter_config.json").write_text("{}")
    await fetcher.adapter(row(), OVER, FIT)
    verify_seal(adapter.parent, "rel_1")
    with pytest.raises(ReleaseUnusable, match="never finished, or is gone"):
        await fetcher.weights(row(2), FIT)


async def test_the_agent_keeps_those_it_used_last_and_never_the_only_copy(bucket: Bucket, tmp_path: Path) -> None:
    store = tmp_path / "there"
    for number in (1, 2, 3, 4):
        made(store, number)
        if number > 1:
            bucket.upload(store / location(number), location(number))
    fetcher = ReleaseFetcher(store, ReleaseCache(bucket, 2, 0))
    for number in (1, 2, 3, 4):
        await fetcher.weights(row(number), FIT)
    left = sorted(path.name for path in (store / "releases" / "assistant").glob("rel_*"))
    assert left == ["rel_1", "rel_3", "rel_4"]  # the first is nowhere else
    await fetcher.weights(row(2), FIT)
    left = sorted(path.name for path in (store / "releases" / "assistant").glob("rel_*"))
    assert left == ["rel_1", "rel_2", "rel_4"]


def test_pruning_leaves_the_card_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    release = made(tmp_path / "here")
    bucket.upload(release, location())
    for _ in range(2):
        Keeping(tmp_path / "here", 5, bucket).remove(location())
        assert objects(bucket) == ["release.json"]
    assert sorted(path.name for path in release.iterdir()) == ["release.json"]


def test_a_folder_shared_by_machines_serves_as_well(tmp_path: Path) -> None:
    shared = Bucket(f"file://{tmp_path / 'shared'}")
    release = made(tmp_path / "here")
    shared.upload(release, location())
    shutil.rmtree(release)
    shared.fetch(location(), release, "rel_1", 0)
    verify_seal(release, "rel_1")


def settings_of(value: Any) -> Any:
    from gateway.settings import Settings

    return Settings.model_validate({"store": {"url": value}}).store.url


def test_only_addresses_of_buckets_are_taken() -> None:
    assert settings_of("s3://models/releases") == "s3://models/releases"
    with pytest.raises(ValueError, match=r"store\.url"):
        settings_of("https://models")
