"""`client.fine_tuning.jobs` of the unmodified openai SDK against the whole gateway, on both databases."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.feedback_tables import Dataset, Run
from gateway.storage.runs import add_run_event
from tests.gateway.routes.fine_tuning_app import (
    BASE,
    NARROW,
    STRANGER,
    answers,
    client_of,
    gateway,
    pairs,
    run_of,
    upload,
)

ORPO: Any = {"type": "orpo", "orpo": {"hyperparameters": {"lambda": 0.2, "n_epochs": 2, "batch_size": 8}}}
FORGED = {"x-stainless-retry-count": "1"}


@pytest.fixture
async def app(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with gateway(database, database_url, tmp_path) as app:
        yield app


@pytest.fixture
def client(app: FastAPI) -> AsyncOpenAI:
    return client_of(app)


async def create(client: AsyncOpenAI, **fields: Any) -> Any:
    fields = {"model": "assistant"} | fields
    if "training_file" not in fields:
        fields["training_file"] = await upload(client, pairs(24))
    return await client.fine_tuning.jobs.create(**fields)


async def set_run(database: Database, job_id: str, **columns: Any) -> None:
    async with database.write() as session:
        run = await session.get_one(Run, job_id)
        for name, value in columns.items():
            setattr(run, name, value)


async def test_a_job_says_what_was_asked_for_and_queues_a_run_of_it(client: AsyncOpenAI, database: Database) -> None:
    metadata = {"ticket": "A-1"}
    file = await upload(client, pairs(24))
    job = await create(client, training_file=file, method=ORPO, suffix="kind", seed=7, metadata=metadata)
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", "assistant", 7)
    assert (job.training_file, job.validation_file, job.metadata, job.suffix) == (file, None, metadata, "kind")
    assert (job.fine_tuned_model, job.finished_at, job.error, job.trained_tokens) == (None, None, None, None)
    assert job.organization_id.startswith("proj_")
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 8)
    assert job.hyperparameters.learning_rate_multiplier == "auto"
    assert job.method.to_dict() == {
        "type": "orpo",
        "orpo": {
            "hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": "auto", "lambda": 0.2}
        },
    }
    assert (await client.fine_tuning.jobs.retrieve(job.id)).to_dict() == job.to_dict()
    run = await run_of(database, job.id)
    asked = {name: run.options[name] for name in ("method", "lambda", "epochs", "pairs_per_step", "seed")}
    assert asked == {"method": "orpo", "lambda": 0.2, "epochs": 2, "pairs_per_step": 8, "seed": 7}
    assert (run.state, run.trigger, run.training_file, run.dataset_id) == ("queued", "manual", file, None)


METHODS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"method": "orpo", "lambda": 0.1, "learning_rate_multiplier": 1.0}, "orpo"),
    ({"metadata": {"algorithm": "orpo"}}, {"method": "orpo", "lambda": 0.1}, "orpo"),
    ({"metadata": {"algorithm": "dpo"}}, {"method": "dpo", "beta": 0.1, "lambda": None}, "dpo"),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "learning_rate_multiplier": 2}}}},
        {"method": "dpo", "beta": 0.3, "learning_rate_multiplier": 2.0},
        "dpo",
    ),
    ({"method": {"type": "supervised"}}, {"method": "sft", "lambda": None, "beta": None}, "supervised"),
    ({"hyperparameters": {"n_epochs": 3}}, {"method": "orpo", "epochs": 3}, "orpo"),
]


async def test_each_method_runs_under_its_own_name(client: AsyncOpenAI, database: Database) -> None:
    file = await upload(client, pairs(24))
    for asked, options, type_ in METHODS:
        job = await create(client, training_file=file, **asked)
        run = await run_of(database, job.id)
        assert {name: run.options[name] for name in options} == options
        assert job.method.type == type_


def orpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "orpo", "orpo": {"hyperparameters": hyperparameters}}


HYPER = "method.orpo.hyperparameters"
ERRORS: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"model": "theirs"}, 404, "model_not_found", "model"),
    ({"model": "embedder"}, 400, "wrong_task", "model"),
    ({"model": "assistant-1"}, 400, "unsupported_model", "model"),
    ({"model": ""}, 400, "invalid_value", "model"),
    ({"training_file": "file-unknown"}, 404, "file_not_found", "training_file"),
    ({"training_file": "ds_unknown"}, 404, "file_not_found", "training_file"),
    ({"training_file": "few"}, 400, "not_enough_pairs", "training_file"),
    ({"training_file": "bad"}, 400, "invalid_file", "training_file"),
    ({"training_file": "answers"}, 400, "wrong_rows", "training_file"),
    ({"training_file": "feedback:auto"}, 400, "not_enough_pairs", "training_file"),
    ({"training_file": "x\0"}, 400, "invalid_value", "training_file"),
    ({"validation_file": "file-unknown"}, 404, "file_not_found", "validation_file"),
    ({"validation_file": "answers"}, 400, "wrong_rows", "validation_file"),
    ({"method": {"type": "reinforcement"}}, 400, "unsupported_method", "method"),
    ({"method": {"type": "simpo"}}, 400, "unsupported_method", "method"),
    ({"method": {"type": "sft"}}, 400, "unsupported_method", "method"),
    ({"metadata": {"algorithm": "ppo"}}, 400, "unsupported_method", "method"),
    ({"method": {"type": "dpo"}, "metadata": {"algorithm": "orpo"}}, 400, "invalid_value", "metadata.algorithm"),
    ({"method": {"type": "orpo", "dpo": {}}}, 400, "invalid_value", "method.dpo"),
    ({"method": orpo(beta=1)}, 400, "unknown_parameter", f"{HYPER}.beta"),
    ({"method": orpo(**{"lambda": -1})}, 400, "invalid_value", f"{HYPER}.lambda"),
    ({"method": orpo(n_epochs=0)}, 400, "invalid_value", f"{HYPER}.n_epochs"),
    ({"method": ORPO, "hyperparameters": {"n_epochs": 1}}, 400, "invalid_value", "hyperparameters"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, 400, "unsupported_parameter", "integrations"),
    ({"suffix": "s" * 65}, 400, "invalid_value", "suffix"),
    ({"seed": -1}, 400, "invalid_value", "seed"),
    ({"metadata": {f"k{n}": "v" for n in range(17)}}, 400, "invalid_value", "metadata"),
    ({"extra_body": {"priority": 1}}, 400, "unknown_parameter", "priority"),
]  # fmt: skip


async def test_what_is_not_supported_is_refused_by_name(client: AsyncOpenAI, database: Database) -> None:
    files = {
        "good": await upload(client, pairs(24)),
        "few": await upload(client, pairs(19)),
        "bad": await upload(client, [*pairs(24), {"prompt": "?"}]),
        "answers": await upload(client, answers(24)),
    }
    for change, status, code, param in ERRORS:
        fields = {"training_file": "good"} | change
        for name in ("training_file", "validation_file"):
            if name in fields:
                fields[name] = files.get(fields[name], fields[name])
        with pytest.raises(openai.APIStatusError) as refused:
            await create(client, **fields)
        found = (refused.value.status_code, refused.value.code, refused.value.param)
        assert found == (status, code, param), (change, refused.value.message)
    assert not (await client.fine_tuning.jobs.list()).data


async def test_another_projects_file_data_set_and_job_are_as_unknown_as_any(
    app: FastAPI, client: AsyncOpenAI, database: Database
) -> None:
    stranger = client_of(app, STRANGER)
    file = await upload(stranger, pairs(24))
    async with database.write() as session:
        card = {"train": {"pairs": 30}, "holdout": {"pairs": 10}}
        await record_dataset(session, "ds_theirs", alias="theirs", location="datasets/ds_theirs", card=card, now=1.0)
    for source in (file, "ds_theirs"):
        with pytest.raises(openai.NotFoundError) as refused:
            await create(client, training_file=source)
        assert refused.value.code == "file_not_found"
    job = await create(client)
    with pytest.raises(openai.NotFoundError) as refused:
        await stranger.fine_tuning.jobs.retrieve(job.id)
    assert refused.value.code == "job_not_found"
    with pytest.raises(openai.NotFoundError):
        await stranger.fine_tuning.jobs.cancel(job.id)
    assert (await stranger.fine_tuning.jobs.list()).data == []
    with pytest.raises(openai.PermissionDeniedError):
        await client_of(app, NARROW).fine_tuning.jobs.list()


async def test_the_base_model_names_its_only_alias(client: AsyncOpenAI) -> None:
    job = await create(client, model=BASE)
    assert (job.model, job.alias) == (BASE, "assistant")


async def test_a_frozen_data_set_is_used_as_it_is_and_only_for_its_alias(
    client: AsyncOpenAI, database: Database
) -> None:
    card = {"train": {"pairs": 18}, "holdout": {"pairs": 2}}
    async with database.write() as session:
        await record_dataset(session, "ds_1", alias="assistant", location="datasets/ds_1", card=card, now=1.0)
        await record_dataset(session, "ds_2", alias="embedder", location="datasets/ds_2", card=card, now=1.0)
        gone = await record_dataset(session, "ds_3", alias="assistant", location="datasets/ds_3", card=card, now=1.0)
        gone.removed_at, gone.replaced_by = 2.0, "ds_1"
    job = await create(client, training_file="ds_1")
    assert (job.training_file, job.dataset) == ("ds_1", "ds_1")
    with pytest.raises(openai.BadRequestError) as refused:
        await create(client, training_file="ds_2")
    assert refused.value.code == "dataset_of_other_alias"
    with pytest.raises(openai.BadRequestError, match="take ds_1") as refused:
        await create(client, training_file="ds_3")
    assert refused.value.code == "dataset_removed"


async def test_a_retry_of_the_sdk_gets_the_first_job_and_a_new_request_a_new_one(
    client: AsyncOpenAI, database: Database
) -> None:
    file = await upload(client, pairs(24))
    first = await create(client, training_file=file)
    assert (await create(client, training_file=file, extra_headers=FORGED)).id == first.id
    assert (await create(client, training_file=file)).id != first.id
    assert (await create(client, training_file=file, seed=1, extra_headers=FORGED)).id != first.id
    await set_run(database, first.id, created_at=time.time() - 601)
    again = await create(client, training_file=file, extra_headers=FORGED)
    assert again.id != first.id


async def test_retries_that_arrive_together_make_one_job(client: AsyncOpenAI) -> None:
    file = await upload(client, pairs(24))
    made = await asyncio.gather(*(create(client, training_file=file, extra_headers=FORGED) for _ in range(4)))
    assert len({job.id for job in made}) == 1


async def test_an_idempotency_key_makes_one_job(client: AsyncOpenAI) -> None:
    file = await upload(client, pairs(24))
    headers = {"idempotency-key": "once"}
    made = [(await create(client, training_file=file, extra_headers=headers)).id for _ in range(2)]
    assert made[0] == made[1]


async def test_jobs_are_paged_newest_first_and_found_by_metadata(client: AsyncOpenAI) -> None:
    file = await upload(client, pairs(24))
    made = [(await create(client, training_file=file, metadata={"n": str(n % 2)})).id for n in range(5)]
    page = await client.fine_tuning.jobs.list(limit=2)
    assert ([job.id for job in page.data], page.has_more) == (made[:2:-1], True)
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]
    tagged = await client.fine_tuning.jobs.list(metadata={"n": "1"})
    assert [job.id for job in tagged.data] == [made[3], made[1]]
    with pytest.raises(openai.NotFoundError):
        await client.fine_tuning.jobs.list(after="ftjob-unknown")


async def test_a_cancelled_job_stays_cancelled_and_takes_no_pause(client: AsyncOpenAI, database: Database) -> None:
    job = await create(client)
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    ended = (await run_of(database, job.id)).finished_at
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    assert (await run_of(database, job.id)).finished_at == ended
    for call in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError) as refused:
            await call(job.id)
        assert refused.value.code == "job_ended"


async def test_a_queued_job_pauses_at_once_and_a_running_one_when_it_can(
    client: AsyncOpenAI, database: Database
) -> None:
    jobs = client.fine_tuning.jobs
    job = await create(client)
    assert (await jobs.pause(job.id)).status == "paused"
    assert (await jobs.pause(job.id)).status == "paused"
    assert (await jobs.resume(job.id)).status == "queued"
    await set_run(database, job.id, state="running", stage="training")
    asked: Any = await jobs.pause(job.id)
    assert (asked.status, asked.pause_requested) == ("running", True)
    taken_back: Any = await jobs.resume(job.id)
    assert (taken_back.status, taken_back.pause_requested) == ("running", False)
    await set_run(database, job.id, state="paused", stage="paused")
    assert (await jobs.cancel(job.id)).status == "cancelled"


STANDS: list[tuple[dict[str, Any], str, int | None]] = [
    ({"state": "running", "stage": "freezing", "progress": 0.0}, "validating_files", None),
    ({"state": "running", "stage": "training", "progress": 0.25}, "running", 400),
    ({"state": "failed", "error": "the disk is full", "finished_at": 9.5}, "failed", None),
    ({"state": "succeeded", "release_id": "rel_assistant_1", "finished_at": 9.5}, "succeeded", None),
]


async def test_a_job_says_how_far_its_run_is(client: AsyncOpenAI, database: Database) -> None:
    job = await create(client)
    began = time.time() - 100
    for columns, status, estimated in STANDS:
        await set_run(database, job.id, **columns, started_at=began)
        found = await client.fine_tuning.jobs.retrieve(job.id)
        assert found.status == status
        # A quarter in 100 s is the whole in 400 s; the test may take a few.
        assert found.estimated_finish == (None if estimated is None else pytest.approx(began + estimated, abs=20))
        assert found.fine_tuned_model == ("assistant-1" if status == "succeeded" else None)
        assert found.finished_at == (9 if "finished_at" in columns else None)
        assert (found.error is not None) == (status == "failed")
        if found.error is not None:
            assert (found.error.code, found.error.message) == ("training_failed", "the disk is full")


async def test_the_votes_there_are_now_are_frozen_and_the_data_set_named(
    client: AsyncOpenAI, database: Database
) -> None:
    file = await upload(client, pairs(40))
    body = {"file_id": file, "source": "crm", "licence": "internal", "alias": "assistant"}
    await client.post("/feedback/imports", body=body, cast_to=dict[str, Any])
    job: Any = await create(client, training_file="feedback:auto")
    assert job.training_file.startswith("ds_")
    async with database.read() as session:
        dataset = await session.get_one(Dataset, job.training_file)
    assert (dataset.alias, dataset.card["pairs"], job.dataset) == ("assistant", 40, dataset.id)
    measured_on = await upload(client, pairs(5, "shape"))
    job = await create(client, training_file="feedback:auto", validation_file=measured_on)
    assert (job.training_file[:3], job.validation_file, job.dataset) == ("ds_", measured_on, None)


async def test_events_and_checkpoints_have_the_shape_of_the_sdk(client: AsyncOpenAI, database: Database) -> None:
    job = await create(client)
    step = {"step": 1, "steps": 9, "epoch": 0.5, "loss": 2.5, "nll": 2.0, "log_odds_ratio": 0.5, "learning_rate": 1e-4,
            "rewards/accuracy": 0.75, "rewards/margin": 0.25, "grad_norm": 3.0}  # fmt: skip
    gate = {"gate": "perplexity", "value": 0.01, "limit": 0.05, "pass": True}
    async with database.write() as session:
        await add_run_event(session, job.id, "training", at=1000.0)
        await add_run_event(session, job.id, "step 1 of 9", type_="metrics", data=step, at=1001.0)
        await add_run_event(session, job.id, "careful", level="warning", at=1002.0)
        for at, number in ((1003.0, 3), (1004.0, 6), (1005.0, 6), (1006.0, 9)):
            data = {"step": number, "loss": 2.0, "final": number == 9}
            await add_run_event(session, job.id, f"checkpoint: step {number}", type_="checkpoint", data=data, at=at)
        await add_run_event(session, job.id, "gate perplexity", data=gate, at=1007.0)
    await set_run(database, job.id, state="succeeded", release_id="rel_assistant_1", finished_at=1008.0)
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert [event.created_at for event in events] == list(range(1007, 999, -1))
    assert {event.object for event in events} == {"fine_tuning.job.event"}
    assert [(event.type, event.level) for event in events[-3:]] == [
        ("message", "warn"),
        ("metrics", "info"),
        ("message", "info"),
    ]
    assert (events[0].type, events[0].data) == ("message", gate)
    assert events[-2].data == {
        "step": 1, "epoch": 0.5, "train_loss": 2.5, "nll": 2.0, "log_odds_ratio": 0.5, "rewards_accuracy": 0.75,
        "rewards_margin": 0.25, "lr": 1e-4,
    }  # fmt: skip
    found = [one async for one in client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)]
    assert [(one.step_number, one.fine_tuned_model_checkpoint) for one in found] == [
        (9, "assistant-1"),
        (6, f"{job.id}:step-6"),
        (3, f"{job.id}:step-3"),
    ]
    assert (found[0].metrics.step, found[0].metrics.train_loss, found[0].metrics.valid_loss) == (9, 2.0, None)
