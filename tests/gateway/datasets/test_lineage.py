"""From an answer to the votes that trained it, and from a vote to what it trained."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from typer import Typer
from typer.testing import CliRunner

from gateway.access.authenticate import Authenticator
from gateway.commands.lineage import lineage as command
from gateway.datasets.pair_file import read_lineage
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import FeedbackCapture
from gateway.routes import lineage
from gateway.routes.errors import install_error_handlers
from gateway.settings import FeedbackSettings, PairingSettings, Settings
from gateway.storage.database import Database
from gateway.storage.keys import sha256_of
from gateway.storage.tables import Alias, ApiKey, Replica
from gateway.telemetry.metrics import Metrics
from tests.gateway.privacy.conftest import DELEGATE, Place

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what no statement of its own depends on: the other tests run on each kind of database."""


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> Place:
    place = Place(database, tmp_path / "store")
    await place.prepare()
    async with database.write() as session:
        for name, project, scopes in (
            ("sk-admin", "proj_1", ["admin"]),
            ("sk-reader", "proj_1", ["feedback:read"]),
            ("sk-stranger", "proj_2", ["feedback:read"]),
        ):
            session.add(
                ApiKey(id=f"key_{name}", project_id=project, name=name, secret_sha256=sha256_of(name), scopes=scopes,
                       created_at=1.0)
            )  # fmt: skip
    return place


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(lineage.router)
    settings = Settings.model_validate({"store": {"path": str(place.store)}})
    app.state.services = SimpleNamespace(
        database=place.database,
        settings=settings,
        authenticator=Authenticator(place.database),
        metrics=Metrics(),
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def get(client: httpx.AsyncClient, path: str, key: str = "sk-admin") -> tuple[int, dict[str, Any]]:
    answer = await client.get(path, headers={"authorization": f"Bearer {key}"})
    return answer.status_code, answer.json()


async def serve(place: Place, release: str) -> None:
    async with place.database.write() as session:
        (await session.get_one(Alias, "assistant")).serving_release_id = release
        session.add(
            Replica(id="assistant-1", alias="assistant", engine="scripted", managed=True, phase="ready",
                    weights_release_id=release, adapters=[], desired_weights_id=release, desired_adapters=[], epoch=1,
                    seen_at=1.0)
        )  # fmt: skip


async def two_ratings(place: Place, user: str, good: str, bad: str) -> list[str]:
    """One rater's thumbs up and down: two votes, and one pair that follows from both."""
    votes = []
    for completion, value in ((good, True), (bad, False)):
        body = {"type": "rating", "name": "thumbs", "value": value, "target": {"completion_id": completion}}
        votes.append(str((await place.vote(user, body, DELEGATE)).reply["id"]))
    return votes


async def test_a_merged_pair_names_every_vote_of_every_pair_in_it(place: Place) -> None:
    """Amy prefers, Bob rates both: one line of the data set, which stands for three votes."""
    good, bad = await place.complete(None, "Yes."), await place.complete(None, "No.")
    amy = await place.prefer("amy", good, bad)
    bob = await two_ratings(place, "bob", good, bad)
    [(_, votes)] = read_lineage(await place.freeze("ds_1"))
    assert votes[0] == amy
    assert sorted(votes) == sorted([amy, *bob])


async def test_erasing_a_rater_whose_vote_only_merged_reaches_the_data_set(place: Place) -> None:
    """Bob's thumb up and Carol's thumb down make one pair, which merges with Amy's: it stands for Carol's word, too."""
    good, bad = await place.complete(None, "Yes."), await place.complete(None, "No.")
    amy = await place.prefer("amy", good, bad)
    settings = FeedbackSettings(pairing=PairingSettings(across_raters=True))
    for user, completion, value in (("carol", bad, False), ("bob", good, True)):
        vote = {"type": "rating", "name": "thumbs", "value": value, "target": {"completion_id": completion}}
        body = parse_body(vote | {"rater": {"id": user, "kind": "end_user"}})
        async with place.database.write() as session:
            await FeedbackCapture(settings, place.secrets).capture(session, DELEGATE, body)
    folder = await place.freeze("ds_1")
    [(_, votes)] = read_lineage(folder)
    assert (votes[0], len(votes)) == (amy, 3)
    await place.release("rel_1", "ds_1")
    assert (await place.erase("carol")).releases == ["rel_1"]
    assert (await place.dataset("ds_1")).removed_at is not None


async def test_an_answer_leads_to_the_votes_that_trained_its_release(place: Place, client: httpx.AsyncClient) -> None:
    votes = [await place.chat_and_vote(f"u{n}", f"question number {n} about {'abcdefgh'[n] * 9}?") for n in range(8)]
    await place.freeze("ds_1")
    await place.release("rel_1", "ds_1")
    await serve(place, "rel_1")
    answer = await place.complete("u0", "trained", release_id="rel_1")
    status, found = await get(client, f"/admin/v1/lineage/completions/{answer}?limit=5")
    assert status == 200
    assert found["completion"]["id"] == answer
    told = {name: found["release"][name] for name in ("id", "serving", "replicas", "tainted", "state")}
    assert told == {
        "id": "rel_1", "serving": ["assistant"], "replicas": ["assistant-1"], "tainted": False, "state": "published",
    }  # fmt: skip
    assert sum(found["dataset"]["votes"].values()) == 8
    assert sum(part["pairs"] for part in found["dataset"]["sources"]) == 8
    assert {(part["basis"], part["source"]) for part in found["dataset"]["sources"]} == {("preference", None)}
    assert (len(found["votes"]["data"]), found["votes"]["has_more"]) == (5, True)
    _, rest = await get(client, f"/admin/v1/lineage/completions/{answer}?limit=5&after={found['votes']['last_id']}")
    assert (len(rest["votes"]["data"]), rest["votes"]["has_more"]) == (3, False)
    listed = [vote["id"] for vote in found["votes"]["data"] + rest["votes"]["data"]]
    assert sorted(listed) == sorted(votes)
    by_release = (await get(client, "/admin/v1/lineage/releases/rel_1"))[1]
    assert [vote["id"] for vote in by_release["votes"]["data"]] == listed
    by_dataset = (await get(client, "/admin/v1/lineage/datasets/ds_1"))[1]
    assert [release["id"] for release in by_dataset["releases"]] == ["rel_1"]


@ON_SQLITE
async def test_an_answer_of_the_base_model_was_trained_on_no_vote(place: Place, client: httpx.AsyncClient) -> None:
    await place.release("rel_base", None)
    _, found = await get(client, f"/admin/v1/lineage/completions/{await place.complete('u', 'base')}")
    assert (found["dataset"], found["votes"]["data"]) == (None, [])


async def test_a_vote_leads_to_its_pairs_data_sets_and_releases(place: Place, client: httpx.AsyncClient) -> None:
    good, bad = await place.complete(None, "Yes."), await place.complete(None, "No.")
    up, down = await two_ratings(place, "bob", good, bad)
    other = await place.chat_and_vote("amy", "something else entirely, please?")
    await place.freeze("ds_1")
    for release in ("rel_1", "rel_2"):
        await place.release(release, "ds_1", state="retired" if release == "rel_1" else "published")
    await serve(place, "rel_2")
    for vote, about in ((up, good), (down, bad)):
        status, found = await get(client, f"/v1/feedback/{vote}/lineage", "sk-reader")
        assert status == 200
        assert about in found["completions"]
        [pair] = found["pairs"]
        assert (sorted(pair["feedback"]), pair["state"]) == (sorted([up, down]), "eligible")
        [dataset] = found["datasets"]
        assert (dataset["id"], [one["id"] for one in dataset["pairs"]]) == ("ds_1", [pair["id"]])
        assert dataset["retracted_since"] is False
        states = [(one["id"], one["state"], one["serving"]) for one in dataset["releases"]]
        assert states == [("rel_1", "retired", []), ("rel_2", "published", ["assistant"])]
        assert "replicas" not in dataset["releases"][0]
    _, found = await get(client, f"/v1/feedback/{other}/lineage", "sk-reader")
    assert [pair["id"] for pair in found["datasets"][0]["pairs"]] == [pair["id"] for pair in found["pairs"]]


@ON_SQLITE
async def test_a_vote_that_was_taken_back_still_names_what_it_trained(place: Place, client: httpx.AsyncClient) -> None:
    vote = await place.chat_and_vote("amy", "is it safe?")
    await place.freeze("ds_1")
    await place.release("rel_1", "ds_1")
    async with place.database.write() as session:
        await FeedbackCapture(FeedbackSettings(), place.secrets).retract(session, DELEGATE, vote)
    _, found = await get(client, f"/v1/feedback/{vote}/lineage", "sk-reader")
    assert (found["feedback"]["status"], found["pairs"][0]["reason"]) == ("retracted", "retracted")
    [dataset] = found["datasets"]
    assert (dataset["retracted_since"], dataset["releases"][0]["id"]) == (True, "rel_1")
    assert (await get(client, "/admin/v1/lineage/releases/rel_1"))[1]["dataset"]["retracted_since"] == 1


@ON_SQLITE
async def test_after_an_erasure_the_votes_left_still_lead_to_the_tainted_release(
    place: Place, client: httpx.AsyncClient
) -> None:
    erased = await place.chat_and_vote("amy", "what does amy want to know?")
    kept = await place.chat_and_vote("bob", "how tall is the tower of pisa?")
    await place.freeze("ds_1")
    await place.release("rel_1", "ds_1")
    await place.erase("amy")
    assert (await get(client, f"/v1/feedback/{erased}/lineage", "sk-reader"))[0] == 404
    _, found = await get(client, f"/v1/feedback/{kept}/lineage", "sk-reader")
    [dataset] = found["datasets"]
    assert [(one["id"], one["tainted"]) for one in dataset["releases"]] == [("rel_1", True)]
    _, release = await get(client, "/admin/v1/lineage/releases/rel_1")
    assert (release["dataset"]["id"], release["dataset"]["read_from"]) == ("ds_1", dataset["id"])
    assert [vote["id"] for vote in release["votes"]["data"]] == [kept]


@ON_SQLITE
async def test_another_project_s_vote_is_404_as_one_that_never_was(place: Place, client: httpx.AsyncClient) -> None:
    vote = await place.chat_and_vote("amy", "is it safe?")
    foreign = await get(client, f"/v1/feedback/{vote}/lineage", "sk-stranger")
    unknown = await get(client, "/v1/feedback/fb_0/lineage", "sk-stranger")
    assert foreign[0] == unknown[0] == 404
    assert foreign[1]["error"] == unknown[1]["error"] | {"message": foreign[1]["error"]["message"]}
    assert foreign[1]["error"]["message"].replace(vote, "fb_0") == unknown[1]["error"]["message"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("completions/chatcmpl-none", "completion_not_found"),
        ("releases/rel_none", "release_not_found"),
        ("datasets/ds_none", "dataset_not_found"),
    ],
)
@ON_SQLITE
async def test_what_is_not_there_is_a_404_that_says_so(client: httpx.AsyncClient, path: str, code: str) -> None:
    status, body = await get(client, f"/admin/v1/lineage/{path}")
    assert (status, body["error"]["code"]) == (404, code)


def test_the_command_takes_every_kind_of_id(tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())

    async def prepare() -> tuple[str, str]:
        place = Place(Database(f"sqlite+aiosqlite:///{tmp_path / 'alignway.db'}"), tmp_path / "store")
        await place.prepare()
        vote = await place.chat_and_vote("amy", "is it safe?")
        await place.freeze("ds_1")
        await place.release("rel_1", "ds_1")
        answer = await place.complete("amy", "trained", release_id="rel_1")
        await place.database.close()
        return vote, answer

    vote, answer = asyncio.run(prepare())
    cli = Typer()
    cli.command()(command)

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, "--data-dir", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    for id_ in (answer, "rel_1", "ds_1"):
        told = run(id_)
        assert vote in told
        assert "Release rel_1 (rel_1, published): does not serve" in told
    assert "Data set ds_1: pair_" in run(vote)
    assert json.loads(run(vote, "--json"))["datasets"][0]["id"] == "ds_1"
    with pytest.raises(InvalidRequest, match="chatcmpl-, fb_, rel_, ds_"):
        run("key_1")
