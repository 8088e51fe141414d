"""ms-swift's ORPO on the pairs. Runs in an environment that has ms-swift."""

import json
from pathlib import Path
from typing import Any

import swift.rlhf_trainers.orpo_trainer as orpo_trainer
from ruler import StepClock, measure
from settings import Settings
from swift.pipelines import rlhf_main


def train(settings: Settings, clock: StepClock) -> None:
    """One pass in the order of the file, through ms-swift's own entry point."""
    pairs = Path(settings.folder) / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(swift_row(row)) + "\n" for row in settings.rows()))
    _add_callback(clock)
    options: dict[str, Any] = {
        "rlhf_type": "orpo", "model": settings.model, "dataset": str(pairs), "split_dataset_ratio": 0,
        "tuner_type": "lora", "target_modules": "all-linear", "lora_rank": settings.rank, "lora_alpha": settings.alpha,
        "lora_dropout": 0, "torch_dtype": settings.dtype, "attn_impl": "sdpa", "max_length": settings.max_length,
        "per_device_train_batch_size": settings.pairs_per_step, "gradient_accumulation_steps": 1,
        "gradient_checkpointing": "false", "beta": settings.lambda_, "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant", "warmup_ratio": 0, "weight_decay": 0, "num_train_epochs": 1,
        "dataset_shuffle": "false", "train_dataloader_shuffle": "false", "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "dataset_num_proc": 1, "dataloader_num_workers": 0, "output_dir": settings.folder,
        **settings.options,
    }  # fmt: skip
    rlhf_main([part for name, value in options.items() for part in (f"--{name}", str(value))])


def swift_row(row: dict[str, Any]) -> dict[str, Any]:
    """A pair as ms-swift reads it."""
    chosen, rejected = (
        [*row["messages"], {"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")
    )
    return {"messages": chosen, "rejected_messages": rejected}


def _add_callback(clock: StepClock) -> None:
    trainer = orpo_trainer.ORPOTrainer
    begin = trainer.__init__

    def begin_with_clock(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self.add_callback(clock)

    trainer.__init__ = begin_with_clock


if __name__ == "__main__":
    measure(train)
