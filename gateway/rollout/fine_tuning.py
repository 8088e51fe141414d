"""Fine-tuning jobs as OpenAI's clients know them, in terms of our runs. Pure: bodies in, options and records out."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.contracts.training import TrainingOptions
from gateway.errors import InvalidRequest
from gateway.storage.feedback_tables import Run, RunEvent

FEEDBACK = "feedback:auto"
"""In place of a file: the votes that are eligible now."""
METHODS = {"orpo": "orpo", "dpo": "dpo", "supervised": "sft", "sft": "sft"}
"""What a client calls a method, and what runs."""
TYPES = {"orpo": "orpo", "dpo": "dpo", "sft": "supervised"}
NAMES = {"loss": "train_loss", "learning_rate": "lr", "rewards/accuracy": "rewards_accuracy",
         "rewards/margin": "rewards_margin"}  # fmt: skip
TOLD = ("step", "epoch", "train_loss", "nll", "log_odds_ratio", "rewards_accuracy", "rewards_margin", "lr")
"""Figures of a step that a metrics event carries, those that the method has."""
LEAST_PROGRESS = 0.05
"""A run that has done less says nothing of when it will end."""
Auto = Literal["auto"]


class UnsupportedMethod(InvalidRequest):
    """A method that does not run here; nothing else is run under its name."""

    code, param = "unsupported_method", "method"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The method {name!r} does not run here. Take `orpo`, `dpo` or `supervised` as `method.type`, or leave "
            "`method` out for orpo; POST /admin/v1/retrain knows further methods."
        )


def _plain(text: Any) -> Any:
    if isinstance(text, str) and "\0" in text:  # PostgreSQL takes no such text
        raise ValueError("must not hold a NUL character")
    return text


Text = Annotated[str, BeforeValidator(_plain)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Hyperparameters(_Body):
    """What every method takes."""

    n_epochs: Annotated[int, Field(ge=1, le=100)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"


class OrpoHyperparameters(Hyperparameters):
    """ORPO's: the weight of its penalty goes by its own name."""

    lambda_: Annotated[float, Field(ge=0)] | Auto = Field(default="auto", alias="lambda")


class DpoHyperparameters(Hyperparameters):
    """DPO's."""

    beta: Annotated[float, Field(gt=0)] | Auto = "auto"


class OrpoMethod(_Body):
    """`method.orpo`."""

    hyperparameters: OrpoHyperparameters = OrpoHyperparameters()


class DpoMethod(_Body):
    """`method.dpo`."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class SupervisedMethod(_Body):
    """`method.supervised`."""

    hyperparameters: Hyperparameters = Hyperparameters()


class MethodBody(_Body):
    """`method`: its type, and the hyper-parameters under the name of the type."""

    type: str = Field(max_length=64)
    orpo: OrpoMethod | None = None
    dpo: DpoMethod | None = None
    supervised: SupervisedMethod | None = None
    reinforcement: dict[str, Any] | None = None


class JobBody(_Body):
    """What `client.fine_tuning.jobs.create` sends."""

    model: Text = Field(min_length=1, max_length=256)
    training_file: Text = Field(min_length=1, max_length=256)
    validation_file: Text | None = Field(default=None, min_length=1, max_length=256)
    method: MethodBody | None = None
    hyperparameters: Hyperparameters | None = None
    """Deprecated by OpenAI; counts where `method` has none."""
    suffix: Text | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    metadata: dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    integrations: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Plan:
    """What a body asks for."""

    options: TrainingOptions
    hyperparameters: dict[str, Any]
    """As asked for, `auto` where nothing was."""


def plan_of(body: JobBody) -> Plan:
    """The options of the run. Raises `UnsupportedMethod` or `InvalidRequest`; nothing is left out silently."""
    if body.integrations:
        raise InvalidRequest(
            "`integrations` are not offered: metrics are events of the job, and TensorBoard files in the store.",
            param="integrations",
            code="unsupported_parameter",
        )
    method = _method(body)
    asked = _hyperparameters(body, TYPES[method])
    given = {name: value for name, value in asked.model_dump(by_alias=True).items() if value != "auto"}
    renamed = {"n_epochs": "epochs", "batch_size": "pairs_per_step"}
    options = {renamed.get(name, name): value for name, value in given.items()}
    return Plan(
        TrainingOptions.model_validate({"method": method, "seed": body.seed or 0} | options),
        asked.model_dump(by_alias=True),
    )


def _method(body: JobBody) -> str:
    named = (body.metadata or {}).get("algorithm")
    asked = body.method.type if body.method is not None else named or "orpo"
    if asked not in METHODS or (body.method is not None and asked not in TYPES.values()):
        raise UnsupportedMethod(asked)
    if named is not None and METHODS.get(named) != METHODS[asked]:
        raise InvalidRequest(
            f"`metadata.algorithm` says {named!r} and `method.type` {asked!r}; leave one of them out.",
            param="metadata.algorithm",
            code="invalid_value",
        )
    return METHODS[asked]


def _hyperparameters(body: JobBody, type_: str) -> Hyperparameters:
    method, old = body.method, body.hyperparameters
    given = {} if method is None else {name: value for name, value in method if name != "type" and value is not None}
    if strangers := sorted(given.keys() - {type_}):
        raise InvalidRequest(
            f"`method.{strangers[0]}` does not belong to a method of the type {type_!r}.",
            param=f"method.{strangers[0]}",
            code="invalid_value",
        )
    if given and old is not None:
        raise InvalidRequest(
            "Give hyper-parameters under `method` or under `hyperparameters`, not both.",
            param="hyperparameters",
            code="invalid_value",
        )
    kinds = {"orpo": OrpoHyperparameters, "dpo": DpoHyperparameters, "supervised": Hyperparameters}
    if given:
        found: Hyperparameters = given[type_].hyperparameters
        return found
    return kinds[type_].model_validate({} if old is None else old.model_dump())


def digest_of(fields: Mapping[str, Any]) -> str:
    """The same for two bodies that say the same."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def asked_of(body: JobBody, plan: Plan) -> dict[str, Any]:
    """What is kept of a body, to be given back."""
    return {
        "model": body.model,
        "training_file": body.training_file,
        "suffix": body.suffix,
        "metadata": body.metadata,
        "hyperparameters": plan.hyperparameters,
    }


def job_view(run: Run, project_id: str, release_name: str | None, now: float) -> dict[str, Any]:
    """A run as a `FineTuningJob`; `release_name`: of the release that it made. Fields of our own stand at the end."""
    asked = run.asked
    return {
        "id": run.id,
        "object": "fine_tuning.job",
        "created_at": int(run.created_at),
        "finished_at": None if run.finished_at is None else int(run.finished_at),
        "estimated_finish": _estimated_finish(run, now),
        "status": _status(run),
        "model": asked.get("model", run.alias),
        "fine_tuned_model": release_name if run.state == "succeeded" else None,
        "organization_id": project_id,
        "training_file": run.training_file or run.dataset_id or FEEDBACK,
        "validation_file": run.validation_file,
        "result_files": [],
        "seed": run.options.get("seed", 0),
        "trained_tokens": None,
        "hyperparameters": _general(_hyperparameters_of(run)),
        "method": _method_view(run),
        "error": None if run.state != "failed" else {"code": "training_failed", "message": run.error, "param": None},
        "integrations": None,
        "metadata": asked.get("metadata"),
        "suffix": asked.get("suffix"),
        "alias": run.alias,
        "stage": run.stage,
        "progress": run.progress,
        "dataset": run.dataset_id,
        "release": run.release_id,
        "cancel_requested": run.cancel_requested,
        "pause_requested": run.pause_requested,
    }


def _status(run: Run) -> str:
    validating = run.state == "running" and run.stage == "freezing" and run.training_file is not None
    return "validating_files" if validating else run.state


def _estimated_finish(run: Run, now: float) -> int | None:
    if run.state != "running" or run.started_at is None or run.progress < LEAST_PROGRESS:
        return None
    return int(run.started_at + (now - run.started_at) / run.progress)


def _hyperparameters_of(run: Run) -> dict[str, Any]:
    if given := run.asked.get("hyperparameters"):
        return dict(given)
    options = run.options
    shown = {
        "n_epochs": options.get("epochs", "auto"),
        "batch_size": options.get("pairs_per_step", "auto"),
        "learning_rate_multiplier": options.get("learning_rate_multiplier", "auto"),
    }
    return shown | {name: options[name] for name in ("lambda", "beta") if options.get(name) is not None}


def _general(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hyperparameters[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")}


def _method_view(run: Run) -> dict[str, Any]:
    name = run.options.get("method", "orpo")
    type_ = TYPES.get(name, name)
    return {"type": type_, type_: {"hyperparameters": _hyperparameters_of(run)}}


def event_view(event: RunEvent) -> dict[str, Any]:
    """What happened in a run, as a `FineTuningJobEvent`."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": int(event.at),
        "level": "warn" if event.level == "warning" else event.level,
        "message": event.message,
        "type": "metrics" if event.type == "metrics" else "message",
        "data": _metrics(event.data) if event.type == "metrics" else event.data,
    }


def _metrics(data: Mapping[str, Any]) -> dict[str, Any]:
    named = {NAMES.get(name, name): value for name, value in data.items()}
    return {name: named[name] for name in TOLD if name in named}


def checkpoint_view(event: RunEvent, run: Run, release_name: str | None) -> dict[str, Any]:
    """Where a run could go on from, as a `FineTuningJobCheckpoint`; only the last one can be called by its name."""
    step = int(event.data["step"])
    called = release_name if event.data.get("final") and run.state == "succeeded" else None
    figures = {name: event.data[key] for name, key in (("train_loss", "loss"),) if key in event.data}
    return {
        "id": event.id.replace("ftevent-", "ftckpt-"),
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(event.at),
        "fine_tuning_job_id": run.id,
        "fine_tuned_model_checkpoint": called or f"{run.id}:step-{step}",
        "step_number": step,
        "metrics": {"step": step, **figures},
    }
