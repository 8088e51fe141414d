"""What turns one release's merged weights into another's: the difference of two adapters, as an adapter itself.

Merged weights are base + B_i A_i; the candidate is base + B_c A_c. Over the former, the adapter with A = [A_c; A_i] and
B = [s_c B_c, -s_i B_i] gives the latter: exactly, but for the rounding of the merged weights. Its rank is the sum.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from alignment.errors import UnfitModel
from alignment.files import fresh_folder, make_readable

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_A, _B = ".lora_A.weight", ".lora_B.weight"
_UNEVEN = ("rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "target_parameters")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory."""

    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    @property
    def rank(self) -> int:
        """The width of its matrices."""
        return int(self.config["r"])

    @property
    def scaling(self) -> float:
        """What the product of its matrices is multiplied by."""
        return float(self.config["lora_alpha"]) / (math.sqrt(self.rank) if self.config.get("use_rslora") else self.rank)

    @property
    def modules(self) -> list[str]:
        """The layers it changes."""
        return [name.removesuffix(_A) for name in self.tensors if name.endswith(_A)]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that can be added to others. Raises `UnfitModel` for one that cannot, saying why."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        adapter = Adapter(config, load_file(str(folder / _TENSORS)))
        _ = adapter.scaling
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UnfitModel(f"{folder} holds no LoRA adapter ({error})") from error
    _check_plain(folder, adapter)
    return adapter


def combine(plus: Adapter | None, minus: Adapter | None) -> Adapter:
    """`plus` minus `minus` as one adapter of scaling 1; None stands for the base. Raises `UnfitModel`."""
    terms = [(adapter, sign) for adapter, sign in ((plus, 1.0), (minus, -1.0)) if adapter is not None]
    if not terms:
        raise UnfitModel("the base does not differ from itself: give at least one adapter")
    rank = sum(adapter.rank for adapter, _ in terms)
    modules = sorted({module for adapter, _ in terms for module in adapter.modules})
    tensors = {}
    for module in modules:
        tensors[module + _A] = torch.cat([_a(terms, adapter, module) for adapter, _ in terms]).contiguous()
        tensors[module + _B] = torch.cat([_b(terms, adapter, sign, module) for adapter, sign in terms], 1).contiguous()
    changed = {"r": rank, "lora_alpha": rank, "use_rslora": False, "lora_dropout": 0.0, "inference_mode": True}
    targets = {"target_modules": sorted({module.rpartition(".")[2] for module in modules})}
    return Adapter({**terms[0][0].config, **changed, **targets}, tensors)


def write_difference(
    plus: Path | None, minus: Path | None, base_folder: Path, folder: Path, max_rank: int | None = None
) -> int:
    """Write `plus` minus `minus` (folders of adapters; None: the base) as an adapter folder; returns its rank.

    Raises `UnfitModel` where there is no exact difference: over a quantised base, for DoRA, or above `max_rank`.
    """
    _check_base(base_folder)
    difference = combine(*(None if one is None else read_adapter(one) for one in (plus, minus)))
    if max_rank is not None and difference.rank > max_rank:
        raise UnfitModel(
            f"the difference is of rank {difference.rank}, and the engine holds adapters up to rank {max_rank}; set "
            f"engine.max_adapter_rank = {difference.rank} or more"
        )
    fresh_folder(folder)
    save_file(dict(difference.tensors), str(folder / _TENSORS), metadata={"format": "pt"})
    text = json.dumps(dict(difference.config), indent=2, sort_keys=True)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")
    make_readable(folder)
    return difference.rank


def _a(terms: Sequence[tuple[Adapter, float]], adapter: Adapter, module: str) -> torch.Tensor:
    found = adapter.tensors.get(module + _A)
    if found is not None:
        return found.float()
    other = next(one.tensors[module + _A] for one, _ in terms if module + _A in one.tensors)
    return torch.zeros(adapter.rank, other.shape[1])  # this adapter leaves the layer alone


def _b(terms: Sequence[tuple[Adapter, float]], adapter: Adapter, sign: float, module: str) -> torch.Tensor:
    found = adapter.tensors.get(module + _B)
    if found is not None:
        return found.float() * (sign * adapter.scaling)
    other = next(one.tensors[module + _B] for one, _ in terms if module + _B in one.tensors)
    return torch.zeros(other.shape[0], adapter.rank)


def _check_plain(folder: Path, adapter: Adapter) -> None:
    config = adapter.config
    if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora"):
        raise UnfitModel(f"{folder} is no plain LoRA or rsLoRA adapter: DoRA and others have no exact difference")
    if config.get("bias", "none") != "none" or any(config.get(name) for name in _UNEVEN):
        raise UnfitModel(f"{folder} changes more than evenly ranked LoRA layers, so it has no exact difference")
    if strange := [name for name in adapter.tensors if not name.endswith((_A, _B))]:
        raise UnfitModel(f"{folder} holds {strange[0]}, which is no LoRA matrix, so it has no exact difference")


def _check_base(base_folder: Path) -> None:
    try:
        config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnfitModel(f"{base_folder} holds no model ({error})") from error
    if config.get("quantization_config"):
        raise UnfitModel(f"{base_folder} is quantised: adapters are not merged into it, so there is no difference")
