"""What was tried to come closer to the floor, and what it gave: packed weights, a fused optimiser.

    python -m benchmarks.training.tried --data PAIRS.jsonl [--rounds N] [--threads N]

Each trial is timed in turn with what the trainer does now, round after round, and the best round of each counts: a
machine that slows down slows both. A ratio above 1 says that the trial is faster. torch.compile of each layer was
measured once, before oneDNN (1.05, `results/training-tried-20261129T121940Z.json`), which it cannot trace.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from alignment.adapter.attach import attach_adapter
from alignment.base_models.identity import describe
from alignment.base_models.resolve import resolve_model
from alignment.models import load_model, load_renderer
from alignment.pairs.read import read_pairs
from alignment.step.batch import tokens_of
from alignment.step.products import linear
from benchmarks.record import RESULTS, record
from gateway.contracts.training import TrainingOptions

Run = Callable[[], Any]


def best_of(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each; one run of each before they are timed."""
    best = {name: float("inf") for name in runs}
    for counted in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if counted:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def packed_products(config: Any, tokens: int, rounds: int) -> dict[str, float]:
    """Seconds of the forward products of one layer of the body: as a step makes them, by torch's own, and packed."""
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = config.num_key_value_heads * (hidden // config.num_attention_heads)
    shapes = [(hidden, hidden), (keys, hidden), (keys, hidden), (hidden, hidden)]
    shapes += [(inner, hidden), (inner, hidden), (hidden, inner)]
    weights = [torch.randn(shape) for shape in shapes]
    inputs = {width: torch.randn(tokens, width) for width in (hidden, inner)}
    mkl = [torch.ops.mkl._mkl_reorder_linear_weight(weight, tokens) for weight in weights]
    dnn = [torch.ops.mkldnn._reorder_linear_weight(weight, tokens) for weight in weights]

    def ours() -> list[Tensor]:
        return [linear(inputs[weight.shape[1]], weight) for weight in weights]

    def plain() -> list[Tensor]:
        return [torch.nn.functional.linear(inputs[weight.shape[1]], weight) for weight in weights]

    def by_mkl() -> list[Tensor]:
        return [
            torch.ops.mkl._mkl_linear(inputs[weight.shape[1]], packed, weight, None, tokens)
            for weight, packed in zip(weights, mkl, strict=True)
        ]

    def by_dnn() -> list[Tensor]:
        return [
            torch.ops.mkldnn._linear_pointwise(inputs[weight.shape[1]], packed, None, "none", [], "")
            for weight, packed in zip(weights, dnn, strict=True)
        ]

    with torch.no_grad():
        runs = {"oneDNN": ours, "torch's own": plain, "packed for MKL": by_mkl, "packed for oneDNN": by_dnn}
        return best_of(runs, 5 * rounds)


def optimiser_of(folder: Path, kind: str) -> Run:
    """One step of AdamW over the adapter's matrices, `foreach` or `fused`."""
    model = attach_adapter(load_model(folder, torch.float32), describe(folder), TrainingOptions(rank=16, alpha=32))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.randn_like(parameter)
    return torch.optim.AdamW(trained, lr=1e-6, foreach=kind == "foreach", fused=kind == "fused").step


def main() -> None:
    """Measure, print and write down."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    folder = resolve_model(given.model)
    pairs = _pairs(given.data, folder, given.max_length)
    tokens = sum(tokens_of(pair) for pair in pairs)
    seconds = {
        "forward products of a layer": packed_products(AutoConfig.from_pretrained(folder), tokens, given.rounds),
        "optimiser": best_of({name: optimiser_of(folder, name) for name in ("fused", "foreach")}, 5 * given.rounds),
    }
    figures = {"model": given.model, "tokens": tokens, "threads": given.threads, "rounds": given.rounds,
               "seconds": seconds, "ratios": {name: ratios(each) for name, each in seconds.items()}}  # fmt: skip
    print(json.dumps(figures, indent=1))
    print(record("training-tried", figures, given.results))


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """How many times as fast as the first, which is what the trainer does, each other one is."""
    first, *others = seconds
    return {name: round(seconds[first] / seconds[name], 3) for name in others}


def _pairs(data: Path, folder: Path, max_length: int, count: int = 4) -> list[Any]:
    renderer = load_renderer(folder, max_length)
    rendered = (renderer.render(pair) for pair in read_pairs(data))
    whole = (pair for pair in rendered if not isinstance(pair, str) and not pair.turns_dropped)
    return [pair for pair, _ in zip(whole, range(count), strict=False)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.tried", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
