"""Trainers beside each other: the same pairs, the same model, one machine, one run.

    python -m benchmarks.training --data PAIRS.jsonl [--data MORE.jsonl] [--model DIR]

Installs what is missing, measures every row on the pairs of every file, and writes JSON, a table and a picture into
`benchmarks/results/`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from alignment.base_models.resolve import resolve_model
from alignment.models import load_renderer
from alignment.pairs.read import read_pairs
from alignment.pairs.tokens import TokenPair
from benchmarks.record import RESULTS, record
from benchmarks.training.floor import least_flops, matmul_peak
from benchmarks.training.plot import draw
from benchmarks.training.rows.settings import Settings
from benchmarks.training.shapes import SHAPES, make_model
from benchmarks.training.table import table
from benchmarks.training.trainers import Trainer, install, load_trainers, measure

_LONGEST_PROMPT = 384


def main() -> None:
    """Measure and write down."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = make_model(given.shape, work / "model") if given.shape else resolve_model(given.model)
        trainers = [one for one in load_trainers() if _is_wanted(one, given)]
        for trainer in trainers:
            install(trainer, given.folder)
        sets = {file.stem: _measure_set(file, model, trainers, given, work) for file in given.data}
    figures = {"model": given.shape or given.model, "device": given.device, "dtype": given.dtype, "sets": sets}
    path = record("training", figures, given.results)
    run = json.loads(path.read_text())
    path.with_suffix(".md").write_text(table(run))
    draw(run, path.with_suffix(".png"))
    print(json.dumps(run, indent=1) if given.json else f"{table(run)}\n{path}")


def _measure_set(
    file: Path, model: Path, trainers: Sequence[Trainer], given: argparse.Namespace, work: Path
) -> dict[str, Any]:
    pairs, rows = _selected(file, model, given)
    chosen = work / f"{file.stem}.jsonl"
    chosen.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    measured: dict[str, Any] = {}
    for trainer in trainers:
        place = work / file.stem / trainer.name
        settings = Settings(
            model=str(model), pairs=str(chosen), out=str(place / "out.json"), folder=str(place),
            pairs_per_step=given.pairs_per_step, max_length=given.max_length, rank=16, alpha=32, lambda_=0.1,
            learning_rate=1e-4, device=given.device, dtype=given.dtype, threads=given.threads,
        )  # fmt: skip
        try:
            measured[trainer.name] = measure(trainer, settings, given.folder, given.minutes) | {"note": trainer.note}
        except RuntimeError as error:
            measured[trainer.name] = {"failed": str(error)}
        print(f"{file.stem} {trainer.name}: {_seen(measured[trainer.name])}", flush=True)
    return _described(pairs, model, given) | {"rows": measured}


def _selected(file: Path, model: Path, given: argparse.Namespace) -> tuple[list[TokenPair], list[dict[str, Any]]]:
    """The first pairs of the file that fit whole, so that every trainer has the same tokens to work on."""
    renderer = load_renderer(model, given.max_length - 1)  # TRL adds an end token
    pairs, rows = [], []
    for pair in read_pairs(file):
        tokens = renderer.render(pair)
        if isinstance(tokens, str) or tokens.turns_dropped or len(tokens.prompt) > _LONGEST_PROMPT:
            continue
        pairs.append(tokens)
        messages = [message.template_dict() for message in pair.prompt]
        rows.append({"messages": messages, "chosen": pair.chosen.text, "rejected": pair.rejected.text})
        if len(rows) == given.pairs:
            return pairs, rows
    raise SystemExit(f"{file} holds only {len(rows)} pairs that fit; ask for fewer with --pairs")


def _described(pairs: Sequence[TokenPair], model: Path, given: argparse.Namespace) -> dict[str, Any]:
    config = AutoConfig.from_pretrained(str(model))
    peak = matmul_peak(given.device, getattr(torch, given.dtype))
    flops = least_flops(config, pairs, rank=16, score_prompts=True)
    steps = len(pairs) / given.pairs_per_step
    return {
        "pairs": len(pairs),
        "pairs_per_step": given.pairs_per_step,
        "tokens": sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs),
        "tokens_prompt_once": sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs),
        "least_flops": flops,
        "matmul_peak_flops": peak,
        "floor_seconds_per_step": flops / peak / steps,
    }


def _seen(row: dict[str, Any]) -> str:
    if "failed" in row:
        return str(row["failed"])
    steady = row["step_seconds"][1:]
    return f"{sum(steady) / len(steady):.2f} s a step, {row['peak_mib']:,.0f} MiB"


def _is_wanted(trainer: Trainer, given: argparse.Namespace) -> bool:
    return trainer.device in ("", given.device) and (not given.only or trainer.name in given.only)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="preference pairs, JSON Lines")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a folder, an id, or the bundled model")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape instead of a model")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--pairs-per-step", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", help="rows, by name")
    parser.add_argument("--minutes", type=float, default=20, help="most that one row may take")
    parser.add_argument("--folder", type=Path, default=Path(".bench-peers"), help="where the peers are installed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    return given


if __name__ == "__main__":
    main()
