"""Models of common sizes with random weights: enough to measure speed and memory where no weights can be fetched."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from alignment.base_models.resolve import resolve_model

# hidden, inner, layers, query heads, key and value heads, as in Llama 3.2 1B and 3B and Llama 3.1 8B
SHAPES = {
    "1b": (2048, 8192, 16, 32, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "8b": (4096, 14336, 32, 32, 8),
}


def make_model(shape: str, folder: Path) -> Path:
    """Write a model of the shape in bfloat16 with the bundled model's tokenizer; returns its folder."""
    hidden, inner, layers, heads, groups = SHAPES[shape]
    bundled = resolve_model("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(str(bundled))
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, vocab_size=128_256, tie_word_embeddings=shape != "8b",
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
