"""A tiny model that trains in seconds, pairs to train it on, and the real small model from the cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment.pairs.pair import PreferencePair
from gateway.contracts.message import Message

torch.set_num_threads(2)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START, END = "<|im_start|>", "<|im_end|>"

PairMaker = Callable[..., PreferencePair]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The release store of an aligner whose converted models and threads are its own."""
    monkeypatch.setenv("ALIGNWAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "store"


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """One token a byte, and the two marks of the chat template; ids 0 and 1 are the marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {START: 0, END: 1} | {letter: index for index, letter in enumerate(alphabet, start=2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([START, END])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=START, pad_token=END)
    fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    """The folder of a random Llama of 2 layers, float32."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(byte_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model.save_pretrained(str(folder))
    byte_tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct, converted into the cache if this is the first time."""
    from alignment.base_models.resolve import resolve_model

    return resolve_model("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def make_pair() -> PairMaker:
    """Makes a pair from texts: `make_pair("prompt", "chosen", "rejected", **fields)`."""

    def make(prompt: str, chosen: str, rejected: str, **fields: Any) -> PreferencePair:
        return PreferencePair(
            id=fields.pop("id", f"pair-{prompt}"),
            prompt=(Message(role="user", content=prompt),),
            chosen=Message(role="assistant", content=chosen),
            rejected=Message(role="assistant", content=rejected),
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def colour_pairs(make_pair: PairMaker) -> list[PreferencePair]:
    """32 short pairs with a rule that is easily learnt: the chosen answer is always `blue`."""
    return [make_pair(f"colour {number}?", "blue", "red" * (1 + number % 3)) for number in range(32)]
