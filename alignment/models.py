"""Load models and tokenizers from local folders. Nothing here reaches over the network."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from alignment.errors import BaseModelMissing, UnfitModel
from alignment.pairs.render import PairRenderer, end_token_ids
from alignment.step.attention import is_soft_capped
from gateway.contracts.training import TrainingOptions


def load_model(folder: Path, dtype: torch.dtype | None = None, quantization: Any = None) -> Any:
    """A causal language model in evaluation mode; `dtype` None keeps the precision of its files.

    It attends by SDPA where it can; eagerly if it caps attention scores, which SDPA would leave out without a word.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype or "auto",
            local_files_only=True,
            quantization_config=quantization,
        )
    except (OSError, ValueError) as error:
        raise BaseModelMissing(f"{folder} holds no model that transformers can load: {error}") from error
    if is_soft_capped(model.config):
        model.set_attn_implementation("eager")
    return model.eval()


def load_for_training(folder: Path, options: TrainingOptions) -> Any:
    """The base in the precision that suits the device, or in 4 bits. Raises `UnfitModel` where that cannot be."""
    device = training_device(options.device)
    if options.quantize is None:
        return load_model(folder, _training_dtype(options, device))
    if device.type != "cuda":
        raise UnfitModel("quantize = nf4 (QLoRA) needs a GPU; leave it out, or train on a host that has one")
    if find_spec("bitsandbytes") is None:
        raise UnfitModel("quantize = nf4 (QLoRA) needs bitsandbytes; pip install bitsandbytes")
    quantized = load_model(folder, torch.bfloat16, BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    ))  # fmt: skip
    return prepare_model_for_kbit_training(quantized, use_gradient_checkpointing=options.gradient_checkpointing)


def _training_dtype(options: TrainingOptions, device: torch.device) -> torch.dtype:
    """float32 on a processor, where anything less is slower; bfloat16 on an accelerator."""
    if options.dtype != "auto":
        return torch.float32 if options.dtype == "float32" else torch.bfloat16
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def load_adapted(base_folder: Path, adapter_folder: Path | None, dtype: torch.dtype | None = None) -> Any:
    """The base model, with an adapter over it if one is given; ready for evaluation."""
    model = load_model(base_folder, dtype)
    if adapter_folder is None:
        return model
    return PeftModel.from_pretrained(model, str(adapter_folder)).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder."""
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise BaseModelMissing(f"{folder} holds no tokenizer that transformers can load: {error}") from error


def load_renderer(folder: Path, max_length_tokens: int) -> PairRenderer:
    """What turns pairs into this model's token ids."""
    return PairRenderer(load_tokenizer(folder), end_token_ids(folder), max_length_tokens)


def pad_id(tokenizer: Any) -> int:
    """A token to pad with; any will do, since padding is masked."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def training_device(wanted: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the processor. Any other name is torch's."""
    if wanted == "npu" and find_spec("torch_npu") is None:
        raise UnfitModel("device npu needs torch_npu; install it as Ascend's pages say, or train on another device")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if wanted == "auto":
        return found or torch.device("cpu")
    if wanted not in ("cpu", found.type if found else "cpu"):
        raise UnfitModel(f"there is no {wanted} device here; take --device auto or cpu")
    return torch.device(wanted)
