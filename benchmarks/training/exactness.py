"""How exact the step is on a real model: its loss and adapter gradients against those of padded rows in float64.

    python -m benchmarks.training.exactness --data PAIRS.jsonl [--rungs segments rows]

Every batch is scored in float64 on padded rows, then on each rung in float64 and in float32, with the same adapter,
whose matrices are fixed and non-zero: a fresh adapter has B = 0, and with it no gradient of A. Transformers computes
RMS norms in float32 even in a float64 model; here they stay in float64 there, so that 1e-12 can be asked for. Exactness
does not depend on what else the machine does.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.adapter.attach import attach_adapter
from alignment.base_models.identity import describe
from alignment.base_models.resolve import resolve_model
from alignment.losses.orpo import orpo
from alignment.models import load_model, load_renderer, load_tokenizer, pad_id
from alignment.pairs.read import read_pairs
from alignment.step.batch import Pair, tokens_of
from alignment.step.pair_step import PairStep
from benchmarks.record import RESULTS, record
from gateway.contracts.training import TrainingOptions

GOALS = {
    "float64": {"loss": 1e-12, "gradients": 1e-12},
    "float32": {"loss": 5e-7, "gradients": 1e-5},
}
"""How far apart they may be: the loss as a share of it, the gradients' difference as a share of their length."""


class Scored(NamedTuple):
    """ORPO's mean loss over a batch, and its gradients by adapter matrix."""

    loss: float
    gradients: list[Tensor]

    def apart(self, exact: "Scored") -> dict[str, float]:
        """Relative differences of the loss, and of all gradients together (L2)."""
        difference, length = 0.0, 0.0
        for one, other in zip(self.gradients, exact.gradients, strict=True):
            difference += float((one.double() - other).square().sum())
            length += float(other.square().sum())
        return {"loss": abs(self.loss / exact.loss - 1), "gradients": (difference / length) ** 0.5}


class Scorer:
    """A model with its fixed adapter in one precision."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        model = load_model(folder, torch.float32)
        adapted = with_fixed_adapter(attach_adapter(model, describe(folder), TrainingOptions(rank=16, alpha=32)))
        self.model = adapted.to(dtype).eval()
        if dtype == torch.float64:
            keep_norms_in_float64(self.model)
        self.step = PairStep(self.model, pad_id(load_tokenizer(folder)))

    def score(self, pairs: Sequence[Pair], rung: str) -> Scored:
        """On one rung."""
        self.step.rung = rung
        with self.step.held(self.model):
            logps = self.step.logps(self.model, self.step.collate(pairs), prompt=True)
            loss = orpo(logps, lambda_=0.1).per_row.mean()
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            return Scored(loss.item(), list(torch.autograd.grad(loss, trained)))


def with_fixed_adapter(adapted: Any) -> Any:
    """Fill A and B with small normal numbers, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            size = 0.02 if "lora_A" in name else 0.01
            parameter.data = size * torch.randn(parameter.shape, generator=generator)
    return adapted


def keep_norms_in_float64(model: Any) -> None:
    """Replace the forward pass of Llama's RMS norms, which goes through float32, by the same in the precision given."""

    def forward(norm: Any, hidden: Tensor) -> Tensor:
        return norm.weight * (hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon))

    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = forward.__get__(module)


def main() -> None:
    """Measure, print and write down; ends with 1 if a goal is missed."""
    given = _arguments()
    folder = resolve_model(given.model)
    batches = _batches(given, folder)
    exact, single = Scorer(folder, torch.float64), Scorer(folder, torch.float32)
    measured = []
    for pairs in batches:
        padded = exact.score(pairs, "padded")
        row: dict[str, Any] = {"tokens_prompt_once": sum(tokens_of(pair) for pair in pairs), "loss": padded.loss}
        row["float32 padded"] = single.score(pairs, "padded").apart(padded)
        for rung in given.rungs:
            row[f"float64 {rung}"] = exact.score(pairs, rung).apart(padded)
            row[f"float32 {rung}"] = single.score(pairs, rung).apart(padded)
        measured.append(row)
        print(json.dumps(row), flush=True)
    worst = {
        name: {figure: max(row[name][figure] for row in measured) for figure in ("loss", "gradients")}
        for name in measured[0]
        if name.startswith("float")
    }
    missed = [name for name, figures in worst.items() if not _is_met(name, figures)]
    figures = {"model": given.model, "pairs_per_batch": given.pairs_per_batch, "max_length": given.max_length,
               "goals": GOALS, "worst": worst, "missed": missed, "batches": measured}  # fmt: skip
    print(json.dumps({"worst": worst, "missed": missed}, indent=1))
    print(record("exactness", figures, given.results))
    raise SystemExit(1 if missed else 0)


def _is_met(name: str, figures: dict[str, float]) -> bool:
    goal = GOALS[name.split()[0]]
    return all(figures[figure] <= limit for figure, limit in goal.items())


def _batches(given: argparse.Namespace, folder: Path) -> list[list[Any]]:
    """The first pairs of the file that fit whole, in their order."""
    renderer = load_renderer(folder, given.max_length)
    pairs: list[Any] = []
    for pair in read_pairs(given.data):
        tokens = renderer.render(pair)
        if not isinstance(tokens, str) and not tokens.turns_dropped:
            pairs.append(tokens)
        if len(pairs) == given.batches * given.pairs_per_batch:
            return [
                pairs[start : start + given.pairs_per_batch] for start in range(0, len(pairs), given.pairs_per_batch)
            ]
    raise SystemExit(f"{given.data} holds only {len(pairs)} pairs that fit; ask for fewer with --batches")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.exactness", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="preference pairs, JSON Lines")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a folder, an id, or the bundled model")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--pairs-per-batch", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rungs", nargs="*", default=["segments", "rows"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
