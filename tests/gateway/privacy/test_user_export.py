"""One document says everything that is stored about a user, and nothing about others."""

import json

from pyarrow.parquet import read_table
from sqlalchemy import text

from gateway.feedback.identity import user_hash
from gateway.privacy.user_export import export_user
from gateway.storage.tables import Table
from tests.gateway.privacy.conftest import Place


async def test_the_document_has_the_users_completions_votes_pairs_and_where_they_were_used(place: Place) -> None:
    vote = await place.chat_and_vote("amy", "我的住址?")
    await place.chat_and_vote("bob", "is it late?")
    await place.freeze("ds_1")
    await place.release("rel_1", "ds_1")
    document = await export_user(place.database, place.store, place.secrets, "amy")
    assert [one["choices"][0]["message"]["content"] for one in document["completions"]] == [
        "Yes, 我的住址?",
        "No, 我的住址?",
    ]
    assert [(one["id"], len(one["revisions"])) for one in document["votes"]] == [(vote, 1)]
    (pair,) = document["pairs"]
    assert (pair["vote"], pair["prompt"][0]["content"]) == (vote, "我的住址?")
    assert document["used_in"] == {"datasets": ["ds_1"], "releases": ["rel_1"]}
    assert "late" not in json.dumps(document)


async def test_a_pair_that_somebody_else_made_of_the_users_chat_is_in_it_without_that_rater(place: Place) -> None:
    mine, other = await place.complete("amy", "Yes."), await place.complete(None, "No.")
    await place.prefer("bob", mine, other)
    document = await export_user(place.database, place.store, place.secrets, "amy")
    assert document["votes"] == []
    assert len(document["pairs"]) == 1
    assert user_hash("proj_1", "bob", place.secrets) not in json.dumps(document)


async def test_after_an_erasure_the_document_is_empty(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.freeze("ds_1")
    await place.erase("amy")
    document = await export_user(place.database, place.store, place.secrets, "amy")
    assert [document[name] for name in ("completions", "votes", "pairs", "usage")] == [[], [], [], []]
    assert document["used_in"] == {"datasets": [], "releases": []}


async def test_no_column_of_any_table_holds_the_name_of_a_user(place: Place) -> None:
    """Chats, votes of every body, decisions, an export and an erasure later."""
    name = "amy.unmistakable-name"
    await place.chat_and_vote(name, "is it safe?")
    answers = [await place.complete(name, answer, "is it late?") for answer in ("Yes.", "No.")]
    edited = {"role": "assistant", "content": "改好了"}
    await place.vote(name, {"type": "correction", "target": {"completion_id": answers[0]}, "message": edited})
    row = {
        "input": {"messages": [{"role": "user", "content": "?"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    await place.vote(name, {"type": "pair", "source": "crm", "licence": "internal"} | row)
    await place.freeze("ds_1")
    await export_user(place.database, place.store, place.secrets, name)
    await place.request(name, "block")
    await assert_nowhere(place, name)
    await place.erase(name, "schedule_retrain")
    await assert_nowhere(place, name)


async def assert_nowhere(place: Place, name: str) -> None:
    looked_at = 0
    async with place.database.read() as session:
        for table in Table.metadata.sorted_tables:
            for column in table.c:
                statement = text(f'SELECT count(*) FROM "{table.name}" WHERE CAST("{column.name}" AS TEXT) LIKE :name')
                assert await session.scalar(statement, {"name": f"%{name}%"}) == 0, column
                looked_at += 1
    assert looked_at > 100
    for file in place.store.rglob("*"):
        if file.suffix == ".parquet":
            assert name not in str(read_table(file).to_pylist())
        else:
            assert not file.is_file() or name not in file.read_text(encoding="utf-8")
