"""Another base model becomes a release: looked at, named as unmeasured, and promoted like any other."""

import shutil
import struct
import time
from pathlib import Path

import pytest

from gateway.agent.releases import Fit, ReleaseFetcher, ReleaseUnusable
from gateway.bootstrap import ResolvedModel, ensure_alias
from gateway.contracts.release import BaseModelRef
from gateway.contracts.seal import weights_sha256
from gateway.errors import Conflict, InvalidRequest, StartupFailed
from gateway.rollout.adding import NewBase, add_base
from gateway.rollout.facts import fits_as_adapter
from gateway.rollout.snapshot import release_facts, snapshot_of
from gateway.settings import ModelSettings
from gateway.storage.releases import announce_release
from gateway.storage.tables import Alias, ReleaseRow
from tests.adapters import MODULE, safetensors, write_base
from tests.gateway.agent.lab import manifest
from tests.gateway.rollout.served import ALIAS, REPLICA, Served

TWO = struct.pack("<f", 2.0)


def model(folder: Path, value: bytes = TWO) -> Path:
    """A model of the same architecture as `write_base`'s, with other weights."""
    write_base(folder)
    (folder / "model.safetensors").write_bytes(safetensors({f"{MODULE}.weight": (4, 4)}, value=value))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def reference(folder: Path) -> BaseModelRef:
    return BaseModelRef(model=folder.name, revision="1", weights_sha256=weights_sha256(folder))


async def add(served: Served, folder: Path, reason: str = "newer") -> ReleaseRow:
    async with served.database.write() as session:
        return await add_base(session, NewBase(ALIAS, folder, reference(folder), reason, "me"), time.time())


@pytest.fixture
async def old(served: Served, tmp_path: Path) -> Path:
    """The folder of the base that the alias stands on."""
    folder = model(tmp_path / "old", struct.pack("<f", 1.0))
    async with served.database.write() as session:
        row = await session.get_one(ReleaseRow, "rel_base")
        row.location, row.manifest = str(folder), {"base": reference(folder).model_dump()}
    return folder


async def test_it_is_promoted_with_a_reason_and_the_alias_stands_on_it(
    served: Served, old: Path, tmp_path: Path
) -> None:
    row = await add(served, model(tmp_path / "new"))
    assert row.name.startswith("assistant-")
    assert row.name.endswith("-base1")
    gates = {gate["gate"]: (gate["verdict"], gate["reason"]) for gate in row.manifest["gates"]}
    assert gates["quality"] == ("warn", "not measured, added by hand: newer")
    assert {gates["harmless"][0], gates["fits"][0]} == {"pass"}
    with pytest.raises(InvalidRequest, match="say in `reason`"):
        await served.promote(row.id)
    await served.promote(row.id, reason="asked for")
    await served.settle()
    assert await served.serving() == row.id
    async with served.database.read() as session:
        assert (await session.get_one(Alias, ALIAS)).base_release_id == row.id
    await served.roll_back()
    await served.settle()
    async with served.database.read() as session:
        assert (await session.get_one(Alias, ALIAS)).base_release_id == "rel_base"


async def test_adapters_of_the_old_base_are_not_put_on_the_new_one(served: Served, old: Path, tmp_path: Path) -> None:
    row = await add(served, model(tmp_path / "new"))
    await served.promote(row.id, reason="asked for")
    await served.settle()
    async with served.database.read() as session:
        (replica,) = (await snapshot_of(session, ALIAS, time.time())).replicas
        assert replica.weights_id == row.id
        assert not fits_as_adapter(release_facts(await session.get_one(ReleaseRow, "rel_a")), replica)
    await served.promote("rel_a")  # merged into the old base: full weights, as before
    while (await served.row(REPLICA)).swap_state is None:
        await served.reconciler.step()
        assert (await served.row(REPLICA)).desired_adapters == []
    await served.settle()
    assert await served.serving() == "rel_a"


async def test_a_run_that_began_on_the_old_base_is_announced_on_it(served: Served, old: Path, tmp_path: Path) -> None:
    row = await add(served, model(tmp_path / "new"))
    await served.promote(row.id, reason="asked for")
    await served.settle()
    release = manifest("rel_late").model_copy(update={"base": reference(old)})
    async with served.database.write() as session:
        assert (await announce_release(session, release, "x", "published")).base_release_id == "rel_base"


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("model.safetensors", safetensors({f"{MODULE}.weight": (6, 4)}), "model_does_not_fit"),
        ("tokenizer.json", b'{"model": 1}', "model_does_not_fit"),
        ("modeling.py", b"", "model_refused"),
        ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "model_refused"),
        ("model.safetensors", b"short", "model_refused"),
    ],
)
async def test_what_an_engine_could_not_change_to_is_refused(
    served: Served, old: Path, tmp_path: Path, file: str, content: bytes, code: str
) -> None:
    folder = model(tmp_path / "new")
    (folder / file).write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        await add(served, folder)
    assert refused.value.code == code


async def test_a_reason_is_needed_and_the_same_weights_are_added_once(
    served: Served, old: Path, tmp_path: Path
) -> None:
    folder = model(tmp_path / "new")
    with pytest.raises(InvalidRequest, match="--reason"):
        await add(served, folder, " ")
    await add(served, folder)
    with pytest.raises(Conflict, match="already"):
        await add(served, folder)
    with pytest.raises(Conflict, match="already"):
        await add(served, old)


async def test_another_chat_template_is_warned_of(served: Served, old: Path, tmp_path: Path) -> None:
    folder = model(tmp_path / "new")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    row = await add(served, folder)
    assert [gate["gate"] for gate in row.manifest["gates"] if gate["verdict"] == "warn"] == ["chat_template", "quality"]


async def test_weights_that_changed_since_they_were_added_are_not_served(
    served: Served, old: Path, tmp_path: Path
) -> None:
    folder = model(tmp_path / "new")
    row = await add(served, folder)
    fetcher = ReleaseFetcher(tmp_path / "store")
    assert await fetcher.weights(row, Fit("", None)) == folder
    (folder / "model.safetensors").write_bytes(safetensors({f"{MODULE}.weight": (4, 4)}))
    with pytest.raises(ReleaseUnusable, match="not those that were added"):
        await fetcher.weights(row, Fit("", None))
    shutil.rmtree(folder)
    with pytest.raises(ReleaseUnusable, match="no config"):
        await fetcher.weights(row, Fit("", None))


async def test_settings_that_name_the_first_base_still_start_after_the_change(
    served: Served, old: Path, tmp_path: Path
) -> None:
    row = await add(served, model(tmp_path / "new"))
    await served.promote(row.id, reason="asked for")
    await served.settle()
    settings = ModelSettings(model=str(old), alias=ALIAS)
    async with served.database.write() as session:
        found = ResolvedModel(str(old), reference(old).model_dump())
        assert (await ensure_alias(session, settings, found)).base_release_id == row.id
        stranger = reference(old).model_dump() | {"weights_sha256": "f" * 64}
        with pytest.raises(StartupFailed):
            await ensure_alias(session, settings, ResolvedModel(str(old), stranger))
