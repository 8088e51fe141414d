"""An adapter is refused with its own reason before an engine sees it; a right one is let through."""

import struct
from pathlib import Path

import pytest

from gateway.agent.releases import Fit, ReleaseFetcher, ReleaseUnusable
from gateway.contracts.adapter_check import BadAdapter, Expected, check_adapter, check_weights
from gateway.contracts.seal import write_seal
from gateway.storage.tables import ReleaseRow
from tests.adapters import lora_shapes, safetensors, write_base, write_lora
from tests.gateway.agent.hostile import HARM, WEIGHTS
from tests.gateway.agent.lab import BASE, RANK, manifest

SHA = BASE.weights_sha256


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_lora(tmp_path / "release" / "adapter", RANK)
    return tmp_path / "release" / "adapter"


def test_there_are_at_least_twelve_kinds_of_harm() -> None:
    assert len(HARM) >= 12
    assert len({said for _, said in HARM.values()}) >= 12


@pytest.mark.parametrize("kind", HARM)
def test_harmful_adapter_is_refused_with_its_reason_and_what_to_do(adapter: Path, base: Path, kind: str) -> None:
    harm, said = HARM[kind]
    harm(adapter, RANK)
    with pytest.raises(BadAdapter) as refused:
        check_adapter(adapter, Expected(RANK, SHA, SHA, base))
    assert said in refused.value.reason
    assert refused.value.advice


@pytest.mark.parametrize(
    ("dtype", "value"), [("F32", struct.pack("<f", 2.0)), ("F16", struct.pack("<e", 2.0)), ("BF16", b"\x00\x40")]
)
def test_right_adapter_of_any_float_type_is_let_through(adapter: Path, base: Path, dtype: str, value: bytes) -> None:
    (adapter / WEIGHTS).write_bytes(safetensors(lora_shapes(RANK), dtype, value))
    (adapter / "README.md").write_text("made by hand")
    check_adapter(adapter, Expected(RANK, SHA, SHA, base))


@pytest.mark.parametrize(
    "module", ["model.language_model.layers.0.self_attn.q_proj", "model.layers.0.attention.inner.q_proj"]
)
def test_modules_of_a_checkpoint_may_be_nested_otherwise_than_when_loaded(
    adapter: Path, base: Path, module: str
) -> None:
    (adapter / WEIGHTS).write_bytes(safetensors(lora_shapes(RANK, module)))
    check_adapter(adapter, Expected(RANK, SHA, SHA, base))


def test_adapter_of_another_base_is_refused(adapter: Path, base: Path) -> None:
    with pytest.raises(BadAdapter, match="trained on weights ffff"):
        check_adapter(adapter, Expected(RANK, "f" * 64, SHA, base))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "code of its own"),
        ("model.safetensors", struct.pack("<Q", 1 << 40), "16 MiB"),
        ("modeling.py", b"", "can run code"),
    ],
)
def test_full_weights_with_code_or_damage_are_refused(base: Path, name: str, content: bytes, said: str) -> None:
    (base / "config.json").write_text("{}")
    check_weights(base)
    (base / name).write_bytes(content)
    with pytest.raises(BadAdapter, match=said):
        check_weights(base)


@pytest.mark.parametrize(("rank", "base_sha"), [(RANK * 2, SHA), (RANK, "f" * 64)])
async def test_sealed_release_that_is_not_what_the_records_say_is_refused(
    tmp_path: Path, adapter: Path, rank: int, base_sha: str
) -> None:
    folder = adapter.parent
    (folder / "release.json").write_text(manifest("rel_x", rank).model_dump_json())
    write_seal(folder, "rel_x")
    row = ReleaseRow(id="rel_x", name="assistant-1", kind="aligned", location="release", adapter_rank=RANK)
    row.base_release_id = "rel_base"
    with pytest.raises(ReleaseUnusable, match="release assistant-1 is not served"):
        await ReleaseFetcher(tmp_path).adapter(row, ReleaseRow(id="rel_base"), Fit(base_sha, None))
