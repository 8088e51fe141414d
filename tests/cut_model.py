"""The small model with its first layers only: an engine answers several times as fast, in words that mean nothing."""

import json
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

LAYERS = 2


def cut_model(source: Path, folder: Path, layers: int = LAYERS) -> Path:
    """A copy of the model in `source` that ends after `layers` layers, in the new folder `folder`."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    with safe_open(source / "model.safetensors", "numpy") as weights:
        names = weights.keys()
        kept = {name: weights.get_tensor(name) for name in names if _layer_of(name) < layers}
        save_file(kept, folder / "model.safetensors", weights.metadata())
    return folder


def _layer_of(name: str) -> int:
    """The layer that a tensor belongs to; below every other for what belongs to none."""
    before, _, rest = name.partition(".layers.")
    return int(rest.split(".")[0]) if rest and before else -1
