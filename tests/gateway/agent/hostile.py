"""Adapters that nobody may load: each is a right one, and one thing done to it."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.adapters import MODULE, WIDTH, lora_config, lora_shapes, safetensors, tensor_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FIRST = f"base_model.model.{MODULE}.lora_A.weight"
SECOND = f"base_model.model.{MODULE}.lora_B.weight"

Harm = Callable[[Path, int], object]
"""What is done to an adapter's folder, given its rank."""


def config(**changes: Any) -> Harm:
    return lambda folder, rank: (folder / CONFIG).write_text(json.dumps(lora_config(rank, **changes)))


def file(name: str, content: bytes = b"x") -> Harm:
    return lambda folder, rank: (folder / name).write_bytes(content)


def matrices(make: Callable[[int], bytes]) -> Harm:
    return lambda folder, rank: (folder / WEIGHTS).write_bytes(make(rank))


def cut(folder: Path, rank: int) -> None:
    right = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(right[:-4])


def link(folder: Path, rank: int) -> None:
    outside = folder.parent.parent / "outside.safetensors"
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(outside)


def lying_offsets(rank: int) -> bytes:
    size = rank * WIDTH * 4
    header = {
        FIRST: {"dtype": "F32", "shape": [rank, WIDTH], "data_offsets": [0, size]},
        SECOND: {"dtype": "F32", "shape": [WIDTH, rank], "data_offsets": [1 << 40, (1 << 40) + size]},
    }
    return tensor_file(header, bytes(2 * size))


def overlapping(rank: int) -> bytes:
    size = rank * WIDTH * 4
    entry = {"dtype": "F32", "data_offsets": [0, size]}
    header = {FIRST: entry | {"shape": [rank, WIDTH]}, SECOND: entry | {"shape": [WIDTH, rank]}}
    return tensor_file(header, bytes(size))


def one_bad(dtype: str, bad: bytes) -> Harm:
    """All ones but the last value."""
    one = {"F32": struct.pack("<f", 1.0), "BF16": b"\x80\x3f", "F16": struct.pack("<e", 1.0)}[dtype]
    return matrices(lambda rank: safetensors(lora_shapes(rank), dtype, one)[: -len(bad)] + bad)


def archive() -> bytes:
    """A zip file of 10 MB of zeros in a few kB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("weights", bytes(10 << 20))
    return packed.getvalue()


HARM: dict[str, tuple[Harm, str]] = {
    "pickle": (file("adapter_model.bin", pickle.dumps({})), "can run code: adapter_model.bin"),
    "pickle under a safe name": (file(WEIGHTS, pickle.dumps([1])), "is a pickle"),
    "python": (file("modeling.py", b"import os"), "can run code: modeling.py"),
    "remote code": (config(auto_map={"AutoModel": "evil.Model"}), "asks for code of its own (auto_map)"),
    "remote code, nested": (config(eva_config={"auto_map": {"x": "y"}}), "asks for code of its own (auto_map)"),
    "zip bomb": (file("weights.zip", archive()), "is an archive"),
    "zip under a safe name": (file(WEIGHTS, archive()), "is an archive"),
    "tokenizer swapped": (file("tokenizer.json", b"{}"), "tokenizer or chat template of its own (tokenizer.json)"),
    "chat template swapped": (file("chat_template.jinja"), "tokenizer or chat template of its own"),
    "stray file": (file("more.safetensors"), "more.safetensors does not belong to an adapter"),
    "no weights": (lambda folder, rank: (folder / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "config no JSON": (file(CONFIG, b'{"r": 8,'), "is damaged: no JSON"),
    "config no object": (file(CONFIG, b"[]"), "is damaged: no JSON object"),
    "config too deep": (file(CONFIG, b"[" * 100_000), "is damaged"),
    "not LoRA": (config(peft_type="PROMPT_TUNING"), "not LORA"),
    "other rank": (config(r=4), "says rank 4"),
    "rank hidden in a pattern": (config(rank_pattern={"q_proj": 512}), "throughout"),
    "infinite scaling": (config(lora_alpha=float("inf")), "no finite number"),
    "scaling not a number": (config(lora_alpha=float("nan")), "no finite number"),
    "huge scaling": (config(lora_alpha=10**9), "over 1024"),
    "replaces layers": (config(modules_to_save=["lm_head"]), "replaces whole layers"),
    "cut off": (cut, "cut off"),
    "empty": (file(WEIGHTS, b""), "no header"),
    "oversized header": (file(WEIGHTS, struct.pack("<Q", 1 << 62)), "over 16 MiB"),
    "header beyond the file": (file(WEIGHTS, struct.pack("<Q", 4096) + b"{}"), "header alone is longer"),
    "offsets beyond the file": (matrices(lying_offsets), "ends beyond the end of the file"),
    "overlapping tensors": (matrices(overlapping), "overlaps another tensor"),
    "hidden bytes": (matrices(lambda rank: safetensors(lora_shapes(rank)) + b"hide"), "belong to no tensor"),
    "header is no JSON": (file(WEIGHTS, struct.pack("<Q", 2) + b"{]"), "is no JSON"),
    "a name twice": (
        file(WEIGHTS, struct.pack("<Q", 15) + b'{"a": 1,"a": 2}'),
        "a name appears twice",
    ),
    "NaN, float32": (one_bad("F32", struct.pack("<f", float("nan"))), "infinite or not a number"),
    "infinity, float16": (one_bad("F16", struct.pack("<e", float("-inf"))), "infinite or not a number"),
    "NaN, bfloat16": (one_bad("BF16", b"\xc0\x7f"), "infinite or not a number"),
    "whole numbers": (
        matrices(lambda rank: safetensors(lora_shapes(rank), "I32", struct.pack("<i", 1))),
        "is of type I32",
    ),
    "unknown type": (matrices(lambda rank: safetensors(lora_shapes(rank), "F4", b"\0\0\0\0")), "unknown type F4"),
    "no B": (matrices(lambda rank: safetensors({FIRST: (rank, WIDTH)})), "has no lora_B matrix"),
    "no A": (matrices(lambda rank: safetensors({SECOND: (WIDTH, rank)})), "has no lora_A matrix"),
    "no matrix at all": (matrices(lambda rank: safetensors({})), "not a single matrix"),
    "full weights inside": (matrices(lambda rank: safetensors({f"{MODULE}.weight": (4, 4)})), "no part of a LoRA"),
    "matrices of another rank": (matrices(lambda rank: safetensors(lora_shapes(2))), "not of rank"),
    "too wide for its base": (matrices(lambda rank: safetensors(lora_shapes(rank, made=6))), "make [6, 4]"),
    "module the base lacks": (
        matrices(lambda rank: safetensors(lora_shapes(rank, "model.layers.7.self_attn.q_proj"))),
        "which its base model does not have",
    ),
    "link out of the folder": (link, "link"),
}
"""By name: what is done, and what must be said of it."""
