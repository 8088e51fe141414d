"""Measure one ORPO step: seconds, processor seconds and peak memory, on random tokens of given lengths.

    python benchmarks/training/measure_step.py [--model NAME] [--pairs 4] [--prompt 40] [--chosen 45] [--rejected 120]

A step is forward, backward, clipping and the optimiser, on the CPU in float32 with a LoRA adapter of rank 16. The
processor seconds say more than the seconds where other work runs on the same machine.
"""

import argparse
import json
import resource
import time

import torch

from alignment.adapter.attach import attach_adapter
from alignment.base_models.identity import describe
from alignment.base_models.resolve import resolve_model
from alignment.models import load_model
from alignment.orpo.loss import orpo_loss
from alignment.orpo.step import pair_logps
from alignment.pairs.collate import PairBatch, PairCollator
from alignment.pairs.render import TokenPair
from gateway.contracts.training import TrainingOptions


def main() -> None:
    """Measure and print one JSON object."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    folder = resolve_model(arguments.model)
    model = attach_adapter(load_model(folder), describe(folder), TrainingOptions()).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    batch = random_batch(arguments, model.config.vocab_size)
    seconds, processor_seconds = [], []
    for _ in range(arguments.steps + 1):
        began, began_processor = time.perf_counter(), time.process_time()
        loss = orpo_loss(*pair_logps(model, batch), 0.1, batch["weights"]).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - began)
        processor_seconds.append(time.process_time() - began_processor)
    measured = {
        "model": arguments.model,
        "pairs": arguments.pairs,
        "tokens": {"prompt": arguments.prompt, "chosen": arguments.chosen, "rejected": arguments.rejected},
        "threads": arguments.threads,
        "seconds_per_step": sorted(seconds[1:])[arguments.steps // 2],
        "processor_seconds_per_step": sorted(processor_seconds[1:])[arguments.steps // 2],
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(measured, indent=1))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=40)
    parser.add_argument("--chosen", type=int, default=45)
    parser.add_argument("--rejected", type=int, default=120)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def random_batch(arguments: argparse.Namespace, vocabulary: int) -> PairBatch:
    """Pairs of random tokens, all of the same lengths."""

    def tokens(count: int) -> list[int]:
        return [int(token) for token in torch.randint(vocabulary, (count,))]

    pairs = [
        TokenPair(str(i), str(i), 1.0, tokens(arguments.prompt), tokens(arguments.chosen), tokens(arguments.rejected))
        for i in range(arguments.pairs)
    ]
    return PairCollator(0)(pairs)


if __name__ == "__main__":
    main()
