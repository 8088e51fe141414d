"""TRL's ORPOTrainer on the pairs. Runs in an environment that has trl."""

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from ruler import StepClock, measure
from settings import Settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer


def train(settings: Settings, clock: StepClock) -> Callable[[], Any]:
    """One pass in the order of the file; then TRL's own evaluation."""
    pairs = Dataset.from_list([trl_row(row) for row in settings.rows()])
    config = ORPOConfig(
        output_dir=settings.folder, beta=settings.lambda_, max_length=settings.max_length,
        use_cpu=settings.device == "cpu", bf16=settings.dtype == "bfloat16",
        per_device_train_batch_size=settings.pairs_per_step, per_device_eval_batch_size=settings.pairs_per_step,
        num_train_epochs=1, learning_rate=settings.learning_rate, lr_scheduler_type="constant", max_grad_norm=1.0,
        logging_steps=1, save_strategy="no", report_to=[], gradient_checkpointing=False, dataloader_pin_memory=False,
        train_sampling_strategy="sequential", disable_tqdm=True, **settings.options,
    )  # fmt: skip
    trainer = ORPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            settings.model, dtype=getattr(torch, settings.dtype), attn_implementation="sdpa"
        ),
        args=config,
        train_dataset=pairs,
        eval_dataset=pairs,
        processing_class=AutoTokenizer.from_pretrained(settings.model),
        peft_config=LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    return trainer.evaluate


def trl_row(row: dict[str, Any]) -> dict[str, Any]:
    """A pair as TRL reads it."""
    sides = {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    return {"prompt": row["messages"], **sides}


if __name__ == "__main__":
    measure(train)
