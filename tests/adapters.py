"""Adapters and tensor files for tests, written byte by byte: a right one, and the parts to make wrong ones of."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]
MODULE = "model.layers.0.self_attn.q_proj"
WIDTH = 4
F32_ONE = struct.pack("<f", 1.0)


def tensor_file(header: Mapping[str, Any], data: bytes) -> bytes:
    """A safetensors file with this header, true or not."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors(shapes: Mapping[str, Shape], dtype: str = "F32", value: bytes = F32_ONE) -> bytes:
    """A right file of tensors that hold one value throughout."""
    header, data = {}, b""
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + count * len(value)],
        }
        data += value * count
    return tensor_file(header, data)


def lora_shapes(rank: int, module: str = MODULE, made: int = WIDTH, taken: int = WIDTH) -> dict[str, Shape]:
    """The two matrices of one module, as peft names them."""
    prefix = f"base_model.model.{module}"
    return {f"{prefix}.lora_A.weight": (rank, taken), f"{prefix}.lora_B.weight": (made, rank)}


def lora_config(rank: int, **changes: Any) -> dict[str, Any]:
    """What peft writes, as far as it counts here."""
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "bias": "none",
        "target_modules": ["q_proj"],
    } | changes


def write_lora(folder: Path, rank: int) -> None:
    """A right adapter of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(lora_config(rank)))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_shapes(rank)))


def write_base(folder: Path) -> None:
    """The weights that fit such an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors({f"{MODULE}.weight": (WIDTH, WIDTH)}))
