"""What a method does to real preferences: trained on one part of a file, measured on another, before and after.

    python -m benchmarks.training.effect --data PAIRS.jsonl --method orpo [--set lambda=1 --set learning_rate=1e-4]

Rows belong to parts by the hash of their prompt (`--help`). Every run is recorded as `results/effect-*.json`; one with
the same settings that was cut off goes on from its last checkpoint.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.adapter.merge import adapter_rank
from alignment.base_models.identity import describe
from alignment.base_models.resolve import resolve_model
from alignment.gate.comparison import Sides
from alignment.gate.holdout import PairScore, holdout_metrics, score_pairs
from alignment.gate.perplexity import perplexity, perplexity_texts
from alignment.jobs.contracts import TrainJob
from alignment.jobs.training import train
from alignment.models import load_adapted, load_renderer, load_tokenizer, pad_id
from alignment.pairs.read import read_pairs
from alignment.training.watch import Watching
from benchmarks.record import RESULTS, record
from gateway.contracts.training import TrainingOptions

_PARTS, _EVALUATION, _TRAINING = 5, (1,), (2, 3, 4)
_FIGURES = ("accuracy", "margin", "chosen_nll")


def main() -> None:
    """Train, measure, record."""
    given = _arguments()
    options = TrainingOptions.model_validate(
        {"method": given.method, "max_length_tokens": given.max_length} | dict(_setting(text) for text in given.set)
    )
    model = resolve_model(given.model)
    name = hashlib.sha256(f"{given.data}{given.pairs}{options.model_dump_json()}".encode()).hexdigest()[:12]
    work = given.work / name
    work.mkdir(parents=True, exist_ok=True)
    training = _part(given.data, _TRAINING, given.pairs, work / "train.jsonl")
    evaluation = _part(
        given.data, _EVALUATION, given.evaluation_pairs, given.work / f"{given.data.stem}-evaluation.jsonl"
    )
    job = TrainJob(base_folder=model, base=describe(model), options=options, pairs_file=training, folder=work / "run")
    trained = train(job, Watching(bar=not given.json))
    adapter_rank(trained.adapter)
    figures = {
        "data": given.data.name, "options": options.model_dump(mode="json", exclude_none=True),
        "training_pairs": trained.pairs, "steps": trained.steps, "seconds": trained.seconds,
        "learning_rate": trained.learning_rate, "last": trained.last,
        **_measured(model, trained.adapter, evaluation, given),
    }  # fmt: skip
    path = record("effect", figures, given.results)
    print(json.dumps(figures, indent=1) if given.json else f"{_told(figures)}\n{path}")


def _measured(model: Path, adapter: Path, evaluation: Path, given: argparse.Namespace) -> dict[str, Any]:
    tokenizer = load_tokenizer(model)
    pairs = load_renderer(model, given.max_length).render_all(read_pairs(evaluation)).pairs
    adapted, texts = load_adapted(model, adapter), perplexity_texts()
    after = score_pairs(adapted, pairs, pad_id(tokenizer))
    perplexity_after = perplexity(adapted, tokenizer, texts)
    with adapted.disable_adapter():
        perplexity_before = perplexity(adapted, tokenizer, texts)
        cache = given.work / f"{evaluation.stem}-{len(pairs)}-base.json"
        before = _cached(cache) or score_pairs(adapted, pairs, pad_id(tokenizer))
    cache.write_text(json.dumps(before))
    found = holdout_metrics(pairs, Sides(after, before))
    prompts = len({pair.prompt_hash for pair in pairs})
    before_figures, after_figures, difference = (
        {name: found[f"holdout_{name}{suffix}"].model_dump() for name in _FIGURES}
        for suffix in ("_base", "", "_difference")
    )
    return {
        "before": {"pairs": len(pairs), "prompts": prompts, **before_figures},
        "after": {"pairs": len(pairs), "prompts": prompts, **after_figures},
        "difference": difference,
        "perplexity_before": perplexity_before,
        "perplexity_after": perplexity_after,
    }


def _cached(file: Path) -> Sequence[PairScore]:
    return [PairScore(*row) for row in json.loads(file.read_text())] if file.is_file() else []


def _part(file: Path, parts: tuple[int, ...], most: int, into: Path) -> Path:
    """The first rows of the file whose prompts belong to these parts."""
    kept = [line for line in file.read_text(encoding="utf-8").splitlines() if _part_of(json.loads(line)) in parts]
    into.write_text("".join(f"{line}\n" for line in kept[:most]), encoding="utf-8")
    return into


def _part_of(row: dict[str, Any]) -> int:
    text = json.dumps(row["messages"], ensure_ascii=False, sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % _PARTS


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _told(figures: dict[str, Any]) -> str:
    lines = [f"{figures['options']['method']} on {figures['training_pairs']} pairs, {figures['steps']} steps"]
    for name in _FIGURES:
        difference = figures["difference"][name]
        lines.append(
            f"  {name:<11} {figures['before'][name]['value']:.4f} -> {figures['after'][name]['value']:.4f}   "
            f"difference {difference['value']:+.4f}, 95 %: {difference['low']:+.4f} to {difference['high']:+.4f}"
        )
    before, after = figures["perplexity_before"], figures["perplexity_after"]
    lines.append(f"  perplexity  {before:.2f} -> {after:.2f} ({after / before - 1:+.1%})")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.effect",
        description="Rows belong to part int(sha256(JSON of messages)[:8], 16) %% 5: part 1 measures, 2 to 4 train.",
    )
    parser.add_argument("--data", type=Path, required=True, help="rows of messages, chosen, rejected")
    parser.add_argument("--method", default="orpo")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a training option")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--pairs", type=int, default=10_000, help="most to train on")
    parser.add_argument("--evaluation-pairs", type=int, default=10_000, help="most to measure on")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--work", type=Path, default=Path(".bench-effect"), help="where runs are kept to go on from")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
