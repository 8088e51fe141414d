"""Reads what a safetensors file says of itself, believing none of it. Knows nothing of what the tensors are for."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HEADER_LIMIT_BYTES = 16 << 20
_LENGTH_BYTES = 8
_BLOCK_VALUES = 1 << 22
_BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1} | {
    name: size for size in (1, 2, 4, 8) for name in (f"I{size * 8}", f"U{size * 8}")
}
_BYTES_OF["BOOL"] = 1
_EXPONENTS: Mapping[str, tuple[str, int]] = {
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""How to look at a value's bits, and those of its exponent: all of them set means infinite, or not a number."""
FLOATS = frozenset(_EXPONENTS)


class BadTensorFile(Exception):
    """A file that is no safetensors file, or whose header does not tell the truth."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, as the header has it; `begin` and `end` count bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(path: Path, *, strict: bool = True) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises `BadTensorFile` unless they fill the file without gap or overlap.

    strict  False takes types unknown here, whose sizes are then not checked.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
        _refuse_other_formats(path, start)
        length = int.from_bytes(start, "little")
        if len(start) < _LENGTH_BYTES or length > HEADER_LIMIT_BYTES:
            raise BadTensorFile(f"{path.name} has no header, or one over {HEADER_LIMIT_BYTES >> 20} MiB")
        if _LENGTH_BYTES + length > size:
            raise BadTensorFile(f"{path.name} is cut off: its header alone is longer than the file")
        header = _parsed(path, file.read(length))
    data = _LENGTH_BYTES + length
    tensors = {name: _tensor(path, name, entry, data, strict) for name, entry in header.items()}
    _check_layout(path, tensors, data, size)
    return tensors


def first_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor of a float type that holds an infinity or something that is not a number."""
    for name, tensor in tensors.items():
        if tensor.end > tensor.begin and any(_has_full_exponent(block, tensor) for block in _blocks(path, tensor)):
            return name
    return None


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if start[:2] == b"PK" or start[:2] == b"\x1f\x8b":
        raise BadTensorFile(f"{path.name} is an archive, and is not unpacked")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise BadTensorFile(f"{path.name} is a pickle, which runs code when it is read")


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise BadTensorFile(f"the header of {path.name} is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise BadTensorFile(f"the header of {path.name} is no JSON object")
    header.pop("__metadata__", None)
    return header


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _tensor(path: Path, name: str, entry: Any, data: int, strict: bool) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise BadTensorFile(f"the header of {path.name} does not describe {name}") from error
    if any(type(number) is not int or number < 0 for number in numbers) or begin > end:
        raise BadTensorFile(f"the header of {path.name} gives impossible numbers for {name}")
    bytes_each = _BYTES_OF.get(dtype) if isinstance(dtype, str) else None
    if bytes_each is None and strict:
        raise BadTensorFile(f"{name} in {path.name} is of the unknown type {dtype}")
    if bytes_each is not None and math.prod(shape) * bytes_each != end - begin:
        raise BadTensorFile(f"the header of {path.name} gives {name} another size than its shape {shape}")
    return Tensor(str(dtype), tuple(shape), data + begin, data + end)


def _check_layout(path: Path, tensors: Mapping[str, Tensor], data: int, size: int) -> None:
    reached = data
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.end > size:
            raise BadTensorFile(f"{path.name} is cut off, or its header lies: {name} ends beyond the end of the file")
        if tensor.begin != reached:
            what = "overlaps another tensor" if tensor.begin < reached else "leaves a gap before it"
            raise BadTensorFile(f"the header of {path.name} lies: {name} {what}")
        reached = tensor.end
    if reached != size:
        raise BadTensorFile(f"{path.name} holds {size - reached} bytes that belong to no tensor")


def _blocks(path: Path, tensor: Tensor) -> Iterator["np.ndarray[Any, Any]"]:
    import numpy as np  # 20 MB that only who checks values needs

    kind, _ = _EXPONENTS[tensor.dtype]
    each = np.dtype(kind).itemsize
    left = (tensor.end - tensor.begin) // each
    with path.open("rb") as file:
        file.seek(tensor.begin)
        while left > 0:
            count = min(left, _BLOCK_VALUES)
            yield np.frombuffer(file.read(count * each), dtype=kind)
            left -= count


def _has_full_exponent(block: "np.ndarray[Any, Any]", tensor: Tensor) -> bool:
    bits = _EXPONENTS[tensor.dtype][1]
    return bool(((block & bits) == bits).any())


def count_values(folder: Path) -> int | None:
    """How many numbers the safetensors files of a folder hold; None where there is none, or one cannot be read."""
    try:
        files = [read_tensors(path, strict=False) for path in sorted(folder.glob("*.safetensors"))]
    except (BadTensorFile, OSError):
        return None
    return sum(math.prod(tensor.shape) for tensors in files for tensor in tensors.values()) if files else None
