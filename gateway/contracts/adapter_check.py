"""What a LoRA adapter must be before an engine may see it. Shared by the aligner and the engine agent.

An adapter is text and numbers: one configuration, one safetensors file. Everything else in its folder is refused, and
so is anything in the two that does not fit the base model, in shape or in name.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.contracts.tensor_file import FLOATS, BadTensorFile, Tensor, first_not_finite, read_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
RUNS_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".so"}
"""Files that an engine might unpickle or run; a release holds safetensors and text."""
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
LARGEST_SCALING = 1024.0
CONFIG_LIMIT_BYTES = 1 << 20

_NOTES = {".md", ".txt"}
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?$"
)
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_REMOTE_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
_TRAIN_AGAIN = "Do not serve it; train again, or promote another release (`alignway releases list`)"
_CODE_ADVICE = "Nobody should run it: find out who wrote it, and delete the folder"


class BadAdapter(Exception):
    """An adapter that must not be loaded: what is wrong with it, and what to do."""

    def __init__(self, reason: str, advice: str = _TRAIN_AGAIN) -> None:
        super().__init__(f"{reason}. {advice}")
        self.reason, self.advice = reason, advice


@dataclass(frozen=True, slots=True)
class Expected:
    """What the records say an adapter is."""

    rank: int
    base_sha256: str
    """Of the base's weights, as the adapter's release says."""
    held_sha256: str
    """Of the weights it would be put on."""
    base_folder: Path | None = None
    """Where these lie, to compare names and shapes; None: on another machine."""


def check_adapter(folder: Path, expected: Expected) -> None:
    """Raise `BadAdapter` unless the folder holds a whole, harmless adapter that fits its base."""
    if expected.base_sha256 != expected.held_sha256:
        raise BadAdapter(
            f"it was trained on weights {expected.base_sha256[:12]}, but would be put on {expected.held_sha256[:12]}",
            "Serve it under the alias of its own base, or train again on this one",
        )
    check_files(folder)
    config = _read_config(folder / CONFIG_FILE)
    _check_config(config, expected.rank)
    matrices = _matrices(folder / WEIGHTS_FILE)
    base = base_shapes(expected.base_folder) if expected.base_folder else {}
    for module, parts in matrices.items():
        _check_module(module, parts, expected.rank)
        if base:
            _check_fit(module, parts, base, bool(config.get("fan_in_fan_out")))


def check_files(folder: Path) -> None:
    """Raise `BadAdapter` if the folder holds anything but the two files and notes."""
    for path in sorted(folder.rglob("*")):
        name, kind = path.relative_to(folder).as_posix(), path.suffix.lower()
        if path.is_symlink():
            raise BadAdapter(f"{name} is a link to elsewhere", _CODE_ADVICE)
        if kind in RUNS_CODE:
            raise BadAdapter(f"it holds files that can run code: {name}", _CODE_ADVICE)
        if kind in ARCHIVES:
            raise BadAdapter(f"{name} is an archive, and is not unpacked", _CODE_ADVICE)
        if is_tokenizer(path.name):
            raise BadAdapter(
                f"it brings a tokenizer or chat template of its own ({name}), which an engine would put in the place "
                "of its base's"
            )
        if path.is_dir() or not (path.name in (CONFIG_FILE, WEIGHTS_FILE) or kind in _NOTES):
            raise BadAdapter(f"{name} does not belong to an adapter")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise BadAdapter(f"it has no {name}")


def is_tokenizer(name: str) -> bool:
    """Whether an engine would read a file of this name as tokenizer, vocabulary or chat template."""
    known = ("vocab.", "merges.", "special_tokens_map.", "added_tokens.", "spiece.", "sentencepiece.", "tekken.")
    return name.startswith(("tokenizer", "chat_template", *known)) or name.endswith(".jinja")


Shapes = dict[str, set[tuple[int, ...]]]


def base_shapes(folder: Path) -> Shapes:
    """The modules of a base model by name, with the shapes of their weights; empty where these are stored packed.

    A name may stand for several modules: a layer of the language model and one of its vision tower, say.
    """
    found: Shapes = defaultdict(set)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors = read_tensors(path, strict=False)
        except BadTensorFile as error:
            raise BadAdapter(f"its base model cannot be read: {error}", "Fetch the base model again") from error
        for name, tensor in tensors.items():
            module, _, part = name.rpartition(".")
            shapes = found[_tail(module)]
            if part == "weight" and tensor.dtype in FLOATS:
                shapes.add(tensor.shape)
    return found


def refuse_remote_code(config: Mapping[str, Any], name: str) -> None:
    """Raise `BadAdapter` if a configuration asks for code that is not part of the engine."""
    if asked := [key for key in _REMOTE_CODE if _names_key(config, key)]:
        raise BadAdapter(f"{name} asks for code of its own ({asked[0]})", _CODE_ADVICE)


def check_weights(folder: Path, links_allowed: bool = False) -> None:
    """Raise `BadAdapter` unless a folder of full weights holds no code, and tensor files that are whole."""
    for path in sorted(folder.rglob("*")):
        name, kind = path.relative_to(folder).as_posix(), path.suffix.lower()
        if path.is_symlink() and not links_allowed:
            raise BadAdapter(f"{name} is a link to elsewhere", _CODE_ADVICE)
        if kind in RUNS_CODE:
            raise BadAdapter(f"it holds files that can run code: {name}", _CODE_ADVICE)
        if kind == ".safetensors":
            try:
                read_tensors(path, strict=False)
            except (BadTensorFile, OSError) as error:
                raise BadAdapter(str(error)) from error
    refuse_remote_code(read_object(folder / "config.json"), "config.json")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a small file. Raises `BadAdapter`."""
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise BadAdapter(f"{path.name} is over {CONFIG_LIMIT_BYTES >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadAdapter(f"{path.name} is damaged: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise BadAdapter(f"{path.name} is damaged: no JSON object")
    return found


def _read_config(path: Path) -> dict[str, Any]:
    config = read_object(path)
    refuse_remote_code(config, path.name)
    return config


def _names_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_names_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_names_key(item, key) for item in value)


def _check_config(config: Mapping[str, Any], rank: int) -> None:
    if config.get("peft_type") != "LORA":
        raise BadAdapter(f"{CONFIG_FILE} names {config.get('peft_type')!r}, not LORA")
    if config.get("r") != rank or config.get("rank_pattern"):
        raise BadAdapter(f"{CONFIG_FILE} says rank {config.get('r')}, but the release says {rank} throughout")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise BadAdapter(f"its scaling (lora_alpha = {alpha}) is no finite number above 0")
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    if scaling > LARGEST_SCALING or config.get("alpha_pattern"):
        raise BadAdapter(f"its scaling is {scaling:g}, over {LARGEST_SCALING:g}, or differs from layer to layer")
    if config.get("modules_to_save") or config.get("bias", "none") != "none" or config.get("trainable_token_indices"):
        raise BadAdapter("it replaces whole layers, biases or tokens of its base")


def _matrices(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        tensors = read_tensors(path)
    except (BadTensorFile, OSError) as error:
        raise BadAdapter(str(error)) from error
    if not tensors:
        raise BadAdapter(f"{path.name} holds not a single matrix")
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        match = _KEY.match(name)
        if match is None:
            raise BadAdapter(f"{name} is no part of a LoRA adapter")
        if tensor.dtype not in FLOATS:
            raise BadAdapter(f"{name} is of type {tensor.dtype}; an adapter holds F32, F16 or BF16")
        found[match["module"]][match["part"]] = tensor
    if (bad := first_not_finite(path, tensors)) is not None:
        raise BadAdapter(f"{bad} holds values that are infinite or not a number")
    return found


def _check_module(module: str, parts: Mapping[str, Tensor], rank: int) -> None:
    for part in ("lora_A", "lora_B"):
        if part not in parts:
            raise BadAdapter(f"{module} has no {part} matrix")
    first, second = parts["lora_A"].shape, parts["lora_B"].shape
    if len(first) != 2 or len(second) != 2 or first[0] != rank or second[1] != rank:
        raise BadAdapter(f"the matrices of {module} are {list(first)} and {list(second)}: not of rank {rank}")


def _check_fit(module: str, parts: Mapping[str, Tensor], base: Shapes, transposed: bool) -> None:
    tail = _tail(module)
    if tail not in base:
        raise BadAdapter(f"it changes {module}, which its base model does not have")
    made, held = (parts["lora_B"].shape[0], parts["lora_A"].shape[1]), base[tail]
    if held and (made[::-1] if transposed else made) not in held:
        shown = " or ".join(str(list(shape)) for shape in sorted(held))
        raise BadAdapter(f"the matrices of {module} make {list(made)}, but the base's weight is {shown}")


def _tail(module: str) -> str:
    """A module's block and its own name: what stands between may differ in a checkpoint and in the loaded model."""
    match, own = _BLOCK.search(module), module.rpartition(".")[2]
    return f"{match[1]}.{own}" if match else own
