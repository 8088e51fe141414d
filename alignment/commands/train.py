"""`alignway train`: train an adapter from a file of preference pairs, without gateway or database."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from alignment.commands.options import HubOption, JsonOption, ModelOption, find_model, print_json, refusal, told
from gateway.contracts.training import TrainingOptions

if TYPE_CHECKING:
    from alignment.jobs.contracts import TrainJob, TrainResult

_RUN_FILE = "run.json"


def train(
    dataset: Annotated[
        Path, typer.Option("--dataset", help="Preference pairs, JSON Lines: OpenAI, TRL, ms-swift or our own rows.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the adapter, metrics and TensorBoard events.")],
    model: ModelOption = "smollm2-135m-instruct",
    hub: HubOption = "huggingface",
    method: Annotated[str, typer.Option(help="orpo")] = "orpo",
    lambda_: Annotated[float, typer.Option("--lambda", help="Weight of ORPO's odds-ratio penalty.")] = 0.1,
    beta: Annotated[float | None, typer.Option("--beta", hidden=True)] = None,
    nll: Annotated[
        str, typer.Option(help="Tokens of the likelihood term: prompt_and_chosen (as TRL does) or chosen.")
    ] = "prompt_and_chosen",
    epochs: Annotated[float | None, typer.Option(help="Passes over the pairs. Default: by their number.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimiser steps.")] = None,
    pairs_per_step: Annotated[int, typer.Option(help="Pairs in one optimiser step.")] = 4,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. Default: a tried one.")] = None,
    max_length: Annotated[int, typer.Option(help="Longest prompt plus completion, in tokens.")] = 1024,
    rank: Annotated[int, typer.Option(help="Width of the LoRA adapter.")] = 16,
    alpha: Annotated[int, typer.Option(help="Numerator of the adapter's scaling, alpha / rank.")] = 32,
    seed: Annotated[int, typer.Option(help="Seeds data order and adapter.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA adapter with ORPO. Run again with the same options, an interrupted training goes on."""
    if method != "orpo":
        raise refusal(f"there is no method {method} yet; take --method orpo")
    if beta is not None:
        raise refusal(
            "with orpo, what TRL and ms-swift call beta is --lambda here, as in the paper (there is no reference "
            f"model to stay near to); say --lambda {beta:g}"
        )
    options = _options(
        method=method,
        lambda_=lambda_,
        nll=nll,
        epochs=epochs or "auto",
        max_steps=max_steps,
        pairs_per_step=pairs_per_step,
        learning_rate=learning_rate or "auto",
        max_length_tokens=max_length,
        rank=rank,
        alpha=alpha,
        seed=seed,
        device=device,
    )
    with told():
        result = _train(dataset, out, find_model(model, hub), options, quiet=as_json)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _tell(result, out, model)


def _options(**given: Any) -> TrainingOptions:
    try:
        return TrainingOptions(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        raise refusal(f"{problem['loc'][0]}: {problem['msg']}") from error


def _train(dataset: Path, out: Path, model_folder: Path, options: TrainingOptions, quiet: bool) -> "TrainResult":
    from alignment.base_models.identity import describe
    from alignment.jobs.contracts import TrainJob
    from alignment.jobs.work import train as train_job
    from alignment.training.checkpoints import discard_all

    job = TrainJob(
        base_folder=model_folder, base=describe(model_folder), options=options, pairs_file=dataset, folder=out
    )
    _claim_folder(job)
    result = train_job(job, bar=not quiet)
    discard_all(out)
    return result


def _claim_folder(job: "TrainJob") -> None:
    """Note what a folder's checkpoints belong to; refuse to go on from those of another run."""
    data = job.pairs_file.read_bytes() if job.pairs_file.is_file() else b""
    mine = {
        "options": job.options.model_dump(mode="json"),
        "base": job.base.model_dump(),
        "data_sha256": hashlib.sha256(data).hexdigest(),
    }
    run_file = job.folder / _RUN_FILE
    if run_file.is_file() and json.loads(run_file.read_text(encoding="utf-8")) != mine:
        raise refusal(
            f"{job.folder} holds another run (other data, model or options); give another --out, or remove it"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    run_file.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")


def _tell(result: "TrainResult", out: Path, model: str) -> None:
    for reason in result.reasons:
        typer.echo(f"  {reason}")
    for reason, count in result.dropped.items():
        typer.echo(f"  {count} pairs left out: {reason}")
    last = result.last
    typer.echo(
        f"Trained on {result.pairs} pairs in {result.seconds:.0f} s: loss {last['loss']:.3f}, "
        f"log odds ratio {last['log_odds_ratio']:+.3f} at the last step.\n"
        f"Adapter: {result.adapter}\nNext: alignway merge --model {model} --adapter {result.adapter} --out {out}/merged"
    )
