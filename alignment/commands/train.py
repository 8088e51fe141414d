"""`alignway train`: train an adapter from a file of preferences, without gateway or database."""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from alignment.commands.options import HubOption, JsonOption, find_hub, print_json, refusal, told
from alignment.commands.stopping import stopping_softly
from alignment.errors import TrainingStopped
from alignment.left_out import left_out
from gateway.contracts.methods import METHODS
from gateway.contracts.training import TrainingOptions

if TYPE_CHECKING:
    from alignment.jobs.contracts import TrainResult

DEFAULT_MODEL = "smollm2-135m-instruct"
_METHOD_HELP = "; ".join(f"{method.name}: {method.summary.rstrip('.')}" for method in METHODS.values())


def _of(title: str, help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=title, show_default=False, **more)


_METHOD, _RUN, _ADAPTER, _MACHINE = "Of the method", "Of the run", "Of the adapter", "Of the machine"


def train(
    out: Annotated[Path, typer.Option("--out", help="Folder for the adapter, metrics and TensorBoard events.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Preferences: JSON Lines, Parquet, a ds_ folder, or a hub id.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help=f"A folder, a hub id, or a bundled model. Default: {DEFAULT_MODEL}.")
    ] = None,
    hub: HubOption = "huggingface",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, as it was asked for.")] = False,
    holdout: Annotated[Path | None, typer.Option("--holdout", help="Preferences that are not trained on.")] = None,
    method: Annotated[str, typer.Option("--method", help=_METHOD_HELP)] = "orpo",
    lambda_: Annotated[float | None, _of(_METHOD, "orpo: weight of the odds-ratio penalty. 0.1.", "--lambda")] = None,
    nll: Annotated[
        str | None, _of(_METHOD, "orpo: likelihood over prompt_and_chosen (as TRL; default here) or chosen.", "--nll")
    ] = None,
    beta: Annotated[float | None, _of(_METHOD, "dpo, orpo-kl, ipo, kto: 0.1; simpo: 2.0.", "--beta")] = None,
    kl_coef: Annotated[float | None, _of(_METHOD, "orpo-kl: weight of the KL to the base. 1.0.", "--kl-coef")] = None,
    orpo_alpha: Annotated[float | None, typer.Option("--orpo-alpha", hidden=True)] = None,
    rpo_alpha: Annotated[float | None, _of(_METHOD, "dpo: weight of an added likelihood. 0.", "--rpo-alpha")] = None,
    gamma: Annotated[float | None, _of(_METHOD, "simpo: the margin wanted. 1.0.", "--gamma")] = None,
    desirable_weight: Annotated[
        float | None, _of(_METHOD, "kto: weight of thumbs up. 1.0.", "--desirable-weight")
    ] = None,
    undesirable_weight: Annotated[
        float | None, _of(_METHOD, "kto: weight of thumbs down. 1.0.", "--undesirable-weight")
    ] = None,
    parameter: Annotated[
        list[str] | None, _of(_METHOD, "NAME=VALUE for a method that a package registered.", "--parameter")
    ] = None,
    epochs: Annotated[float | None, _of(_RUN, "Passes over the rows. By their number.", "--epochs")] = None,
    max_steps: Annotated[int | None, _of(_RUN, "Stop after so many optimiser steps.", "--max-steps")] = None,
    pairs_per_step: Annotated[int | None, _of(_RUN, "Rows in one optimiser step. 4.", "--pairs-per-step")] = None,
    learning_rate: Annotated[float | None, _of(_RUN, "Peak. By the model's size.", "--learning-rate")] = None,
    max_length: Annotated[int | None, _of(_RUN, "Longest prompt plus answer, tokens. 1024.", "--max-length")] = None,
    early_stop: Annotated[
        int | None, _of(_RUN, "Stop after so many evaluations without a gain; keep the best.", "--early-stop")
    ] = None,
    evaluate_every: Annotated[
        int | None, _of(_RUN, "Evaluate on the held-out rows after so many steps.", "--evaluate-every")
    ] = None,
    neftune_alpha: Annotated[float | None, _of(_RUN, "NEFTune noise; 5 is usual.", "--neftune-alpha")] = None,
    seed: Annotated[int | None, _of(_RUN, "Seeds data order and adapter. 0.", "--seed")] = None,
    rank: Annotated[int | None, _of(_ADAPTER, "Width. 16.", "--rank")] = None,
    alpha: Annotated[int | None, _of(_ADAPTER, "Numerator of the scaling, alpha / rank. 32.", "--alpha")] = None,
    dropout: Annotated[float | None, _of(_ADAPTER, "Dropout before the adapter. 0.", "--dropout")] = None,
    target: Annotated[
        list[str] | None, _of(_ADAPTER, "Layer that gets an adapter, such as q_proj; repeat it.", "--target")
    ] = None,
    rslora: Annotated[bool, _of(_ADAPTER, "Scale by alpha / sqrt(rank).", "--rslora")] = False,
    dora: Annotated[bool, _of(_ADAPTER, "Direction and magnitude apart.", "--dora")] = False,
    device: Annotated[str | None, _of(_MACHINE, "auto, cpu, cuda or npu.", "--device")] = None,
    dtype: Annotated[str | None, _of(_MACHINE, "auto, float32 or bfloat16.", "--dtype")] = None,
    quantize: Annotated[str | None, _of(_MACHINE, "nf4: QLoRA, on a GPU.", "--quantize")] = None,
    tokens_per_batch: Annotated[
        int | None, _of(_MACHINE, "Tokens scored at once. By free memory.", "--tokens-per-batch")
    ] = None,
    gradient_checkpointing: Annotated[
        bool, _of(_MACHINE, "Less memory, more time.", "--gradient-checkpointing")
    ] = False,
    workers: Annotated[int, _of(_MACHINE, "Processes that share every step. 1.", "--workers", min=1)] = 1,
    checkpoint_seconds: Annotated[
        float | None, _of(_MACHINE, "Between checkpoints; a kill costs no more. 20.", "--checkpoint-seconds", min=0)
    ] = None,
    runner: Annotated[str, _of(_MACHINE, "Where they run: local or ray. local.", "--runner")] = "local",
    report_to: Annotated[
        list[str] | None, _of(_MACHINE, "Further reporters of transformers, such as wandb.", "--report-to")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA adapter on preferences. Run again with the same words, an interrupted training goes on."""
    given = dict(locals())
    place: dict[str, Any] = {"holdout": holdout, "hub": find_hub(hub), "workers": workers, "runner": _runner(runner)}
    place |= {"report_to": report_to or ()}
    if checkpoint_seconds is not None:
        place["checkpoint_seconds"] = checkpoint_seconds
    if resume:
        model, result = _resumed(given, place)
    elif dataset is None:
        raise refusal("name the preferences: --dataset FILE; or go on with a run: --resume --out DIR")
    else:
        result = _trained(model or DEFAULT_MODEL, dataset, out, _options(given), place)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _tell(result, out, model or DEFAULT_MODEL)


_NOT_OPTIONS = (
    "out", "dataset", "model", "hub", "resume", "holdout", "workers", "checkpoint_seconds", "runner", "report_to",
    "as_json",
)  # fmt: skip
_OTHER_NAMES = {"max_length": "max_length_tokens", "target": "targets", "parameter": "parameters"}


def _options(given: dict[str, Any]) -> TrainingOptions:
    options = {_OTHER_NAMES.get(name, name): given[name] for name in _given_options(given)}
    if given["method"] == "orpo":
        options.setdefault("nll", "prompt_and_chosen")
    if given["parameter"]:
        options["parameters"] = dict(_parameter(text) for text in given["parameter"])
    try:
        return TrainingOptions.model_validate(options)
    except ValidationError as error:
        problem = error.errors()[0]
        place = f"{problem['loc'][0]}: " if problem["loc"] else ""
        raise refusal(place + problem["msg"].removeprefix("Value error, ")) from error


def _given_options(given: dict[str, Any]) -> list[str]:
    return [name for name, value in given.items() if name not in _NOT_OPTIONS and value not in (None, False)]


def _parameter(text: str) -> tuple[str, float | str]:
    name, found, value = text.partition("=")
    if not found:
        raise refusal(f"--parameter {text} is no NAME=VALUE")
    try:
        return name, float(value)
    except ValueError:
        return name, value


def _runner(name: str) -> str:
    if name not in ("local", "ray"):
        raise refusal(f"--runner is local or ray, not {name}")
    return name


def _resumed(given: dict[str, Any], place: dict[str, Any]) -> "tuple[str, TrainResult]":
    with told():
        from alignment.library import finished_run, read_run

        run, finished = read_run(given["out"]), finished_run(given["out"])
    options = TrainingOptions.model_validate(run["options"])
    _refuse_other_options(given, options)
    if finished:
        typer.echo(f"The run in {given['out']} is finished; nothing was left to do.", err=True)
        return run["model"], finished
    place = place | {"holdout": run["holdout"]}
    return run["model"], _trained(run["model"], run["dataset"], given["out"], options, place)


def _refuse_other_options(given: dict[str, Any], options: TrainingOptions) -> None:
    """A run goes on as it was begun: words that say the same are fine, others must not be passed over in silence."""
    method = options.method if given["method"] == "orpo" else given["method"]
    asked = _options(given | {"method": method})
    names = ["method", *_given_options(given | {"method": None})]
    fields = {name: "kl_coef" if name == "orpo_alpha" else _OTHER_NAMES.get(name, name) for name in names}
    if other := [name for name, field in fields.items() if getattr(asked, field) != getattr(options, field)]:
        flags = ", ".join("--" + name.rstrip("_").replace("_", "-") for name in other)
        raise refusal(
            f"--resume goes on with the options of the run in {given['out']}; leave {flags} out, or begin anew in "
            "another folder"
        )


def _trained(model: str, dataset: str, out: Path, options: TrainingOptions, place: dict[str, Any]) -> "TrainResult":
    with told():
        from alignment.library import train as run

        if place["workers"] > 1 or place["runner"] == "ray":  # their processes are not ours to stop softly
            return run(model, dataset, out, options, bar=True, **place)
        with left_out():  # not in the library: there the process is somebody else's
            import_module("alignment.jobs.training")
        with stopping_softly("Stopping behind this step, with a checkpoint") as should_stop, _way_back(out):
            return run(model, dataset, out, options, should_stop=should_stop, bar=True, **place)


@contextlib.contextmanager
def _way_back(out: Path) -> Iterator[None]:
    try:
        yield
    except TrainingStopped as error:
        raise TrainingStopped(f"{error.message}; go on with: alignway train --resume --out {out}") from error


def _tell(result: "TrainResult", out: Path, model: str) -> None:
    for reason in result.reasons:
        typer.echo(f"  {reason}")
    for reason, count in result.dropped.items():
        typer.echo(f"  {count} rows left out: {reason}")
    figures = ", ".join(
        f"{name} {result.last[key]:{shape}}"
        for key, name, shape in (
            ("loss", "loss", ".3f"), ("log_odds_ratio", "log odds ratio", "+.3f"),
            ("rewards/accuracy", "accuracy", ".2f"), ("kl", "KL", ".3f"),
        )
        if key in result.last
    )  # fmt: skip
    typer.echo(
        f"Trained on {result.pairs} rows in {result.seconds:.0f} s: {figures} at the last step.\n"
        f"Adapter: {result.adapter}\nCurves:  {out / 'training.png'}\n"
        f"Next: alignway merge --model {model} --adapter {result.adapter} --out {out}/merged"
    )
