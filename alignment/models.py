"""Load models and tokenizers from local folders. Nothing here reaches over the network."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignment.errors import BaseModelMissing
from alignment.pairs.render import PairRenderer, end_token_ids


def load_model(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """A causal language model in evaluation mode; `dtype` None keeps the precision of its files."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype or "auto", attn_implementation="sdpa", local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise BaseModelMissing(f"{folder} holds no model that transformers can load: {error}") from error
    return model.eval()


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
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
