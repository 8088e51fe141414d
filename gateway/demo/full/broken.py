"""A model that was converted badly: whole files, right names, shapes and numbers, and layers that say nothing."""

import shutil
from pathlib import Path

from gateway.contracts.tensor_file import read_tensors
from gateway.demo.service import DemoFailed

LAYER_OUTPUTS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""What a layer adds to what it was given; at zero it adds nothing, and the last token alone decides on the next."""


def write_broken_copy(model: Path, folder: Path) -> int:
    """Copy a model with the outputs of all its layers set to zero; returns how many tensors that were.

    Raises `DemoFailed` if it has none of these names.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    zeroed = 0
    for file in sorted(path for path in model.iterdir() if path.is_file()):
        shutil.copyfile(file, folder / file.name)
        if file.suffix == ".safetensors":
            zeroed += _zero_outputs(folder / file.name)
    if not zeroed:
        raise DemoFailed(f"{model} has no tensors named {' or '.join(LAYER_OUTPUTS)}; play the demo with its own model")
    return zeroed


def _zero_outputs(path: Path) -> int:
    found = [tensor for name, tensor in read_tensors(path, strict=False).items() if name.endswith(LAYER_OUTPUTS)]
    with path.open("r+b") as file:
        for tensor in found:
            file.seek(tensor.begin)
            file.write(bytes(tensor.end - tensor.begin))
    return len(found)
