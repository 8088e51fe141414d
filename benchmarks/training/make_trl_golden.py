"""Make `tests/alignment/data/trl_golden.json`: what TRL's ORPOTrainer computes for eight pairs on a real model.

    python benchmarks/training/make_trl_golden.py MODEL_FOLDER tests/alignment/data/trl_golden.json

Needs trl==1.16.0 beside the packages of the main environment; Alignway itself needs it nowhere. Per pair the file
holds the texts, TRL's token ids, TRL's float32 values, and the same values from plain padded float64 logits, computed
here with nothing of Alignway, so that a test can tell its own error from TRL's rounding.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

LAMBDA = 0.1
PAIRS = [
    (
        [{"role": "user", "content": "Name three tools for a small garden."}],
        "A trowel, a pair of secateurs and a watering can will do for a small garden.",
        "Gardens are lovely! There are so many tools in this world that it is hard to say which of them you need.",
    ),
    (
        [{"role": "user", "content": "Why does iron rust?"}],
        "Iron rusts because it reacts with oxygen and water. Salt makes it rust faster.",
        "Iron rusts because it is old and tired, and because metals dislike the rain, as everybody knows by now.",
    ),
    (
        [
            {"role": "system", "content": "You answer in one sentence."},
            {"role": "user", "content": "What is a haiku?"},
        ],
        "A haiku is a short Japanese poem in three lines of five, seven and five syllables.",
        "A haiku is a poem. It comes from Japan. It has three lines. The first line has five syllables.",
    ),
    (
        [
            {"role": "user", "content": "I want to learn to swim."},
            {"role": "assistant", "content": "Good! Are you afraid of deep water?"},
            {"role": "user", "content": "A little. Where should I begin?"},
        ],
        "Begin in water that reaches your chest, and practise breathing out with your face below the surface.",
        "Jump in at the deep end.",
    ),
    (
        [{"role": "user", "content": "Is 51 a prime number?"}],
        "No: 51 is 3 times 17.",
        "Yes, 51 is a prime number, since it is odd.",
    ),
    (
        [{"role": "user", "content": "Suggest a name for a grey cat."}],
        "Call her Smoke.",
        "Here are some suggestions:\n\n1. Ash\n2. Pebble\n3. Cloud\n4. Slate\n\nWould you like more names?",
    ),
    (
        [{"role": "user", "content": "How long do I boil an egg?"}],
        "Six minutes for a soft yolk, ten for a hard one, counted from when the water boils again.",
        "It depends on the egg.",
    ),
    (
        [{"role": "user", "content": "Write a short note to say that I shall be late."}],
        "Dear Ada, my train is late; please start without me. I shall be there by seven. Yours, Tom",
        "I am writing to inform you, with the deepest regret, of circumstances which have arisen today.",
    ),
]


def main() -> None:
    """Compute and write."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(2)
    trainer = make_trainer(folder)
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    rows = [golden_row(trainer, exact, index) for index in range(len(PAIRS))]
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    packages = {package.__name__: package.__version__ for package in (trl, torch, transformers)}
    document = {
        "made_with": packages,
        "model": "smollm2-135m-instruct as Alignway converts it, in evaluation mode, without adapter",
        "model_safetensors_sha256": weights,
        "lambda": LAMBDA,
        "definitions": {
            "chosen_logps, rejected_logps": "mean over the completion's tokens, TRL's second end token too",
            "nll": "mean cross-entropy over all tokens of prompt and chosen completion but the first",
            "total": "nll - lambda * log sigmoid(log_odds_ratio)",
        },
        "pairs": rows,
    }
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def make_trainer(folder: Path) -> Any:
    """TRL's trainer over our pairs; it tokenises them in its own way."""
    config = ORPOConfig(
        output_dir=tempfile.mkdtemp(),
        beta=LAMBDA,
        max_length=512,
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=1,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [{"prompt": prompt, "chosen": say(chosen), "rejected": say(rejected)} for prompt, chosen, rejected in PAIRS]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = ORPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.model.eval()
    return trainer


def say(text: str) -> list[dict[str, str]]:
    """One assistant message."""
    return [{"role": "assistant", "content": text}]


@torch.no_grad()
def golden_row(trainer: Any, exact: Any, index: int) -> dict[str, Any]:
    """One pair alone in its batch, so that TRL's batch means are the pair's own values."""
    prompt, chosen, rejected = PAIRS[index]
    tokens = trainer.train_dataset[index]
    batch = trainer.data_collator([tokens])
    chosen_logps, rejected_logps, _, _, nll = trainer.concatenated_forward(trainer.model, batch)[:5]
    _, _, _, _, log_odds_ratio = trainer.odds_ratio_loss(chosen_logps, rejected_logps)
    total, _ = trainer.get_batch_loss_metrics(trainer.model, batch, "eval")
    values = {
        "chosen_logps": chosen_logps,
        "rejected_logps": rejected_logps,
        "nll": nll,
        "log_odds_ratio": log_odds_ratio,
        "total": total,
    }
    ids = {name: list(tokens[f"{name}_input_ids"]) for name in ("prompt", "chosen", "rejected")}
    return {
        "id": f"own-{index}",
        "messages": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "prompt_ids": ids["prompt"],
        "chosen_ids": ids["chosen"][len(ids["prompt"]) :],
        "rejected_ids": ids["rejected"][len(ids["prompt"]) :],
        "trl_float32": {name: value.item() for name, value in values.items()},
        "float64": exact_values(exact, ids),
    }


def exact_values(model: Any, ids: dict[str, list[int]]) -> dict[str, float]:
    """The definitions of the paper on padded rows, in double precision, as plainly as they can be written."""
    width = max(len(ids["chosen"]), len(ids["rejected"]))
    rows = torch.zeros(2, width, dtype=torch.long)
    mask = torch.zeros(2, width, dtype=torch.long)
    for row, name in enumerate(("chosen", "rejected")):
        rows[row, : len(ids[name])] = torch.tensor(ids[name])
        mask[row, : len(ids[name])] = 1
    logps = model(input_ids=rows, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    logps = logps.gather(2, rows[:, 1:, None]).squeeze(2)
    begin = len(ids["prompt"]) - 1
    chosen, rejected = (logps[i, begin : mask[i].sum() - 1].mean() for i in (0, 1))
    nll = -logps[0, : mask[0].sum() - 1].mean()
    odds = (logps_mean - torch.log(1 - logps_mean.exp()) for logps_mean in (chosen, rejected))
    ratio = next(odds) - next(odds)
    total = nll - LAMBDA * torch.log(1 / (1 + torch.exp(-ratio)))
    values = {"chosen_logps": chosen, "rejected_logps": rejected, "nll": nll, "log_odds_ratio": ratio, "total": total}
    return {name: value.item() for name, value in values.items()}


if __name__ == "__main__":
    main()
