"""Imported pairs over a real SQLite and a real PostgreSQL: all or none, once, for an alias of the project."""

from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from gateway.contracts.message import Message
from gateway.contracts.prompt import prompt_hash
from gateway.errors import AlignwayError, InvalidRequest
from gateway.feedback.capture import Captured
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.tables import Table

MESSAGES = [{"role": "user", "content": "Hi"}]


def pair(preferred: str = "Hello.", non_preferred: str = "What?", **fields: Any) -> dict[str, Any]:
    return {
        "input": {"messages": MESSAGES},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": non_preferred}],
    } | fields


HEAD = {"type": "pair", "source": "crm", "licence": "internal"}


async def all_rows(database: Database, table: type[Table]) -> Sequence[Any]:
    async with database.read() as session:
        return (await session.scalars(select(table).order_by(*table.__table__.primary_key))).all()


async def refusal(vote: Awaitable[Captured], kind: type[AlignwayError]) -> AlignwayError:
    with pytest.raises(kind) as caught:
        await vote
    return caught.value


async def test_an_imported_pair_trains_the_only_alias(desk: Any) -> None:
    captured = await desk.vote(HEAD | pair())
    assert captured.created
    assert captured.reply["target"] == {
        "prompt_hash": captured.reply["target"]["prompt_hash"],
        "alias": "assistant",
        "release_ids": [],
    }
    again = await desk.vote(HEAD | pair())
    assert (again.created, again.reply) == (False, captured.reply)


async def test_where_there_are_several_aliases_an_import_must_choose(desk: Any, make_alias: Any) -> None:
    await make_alias("doctor")
    await make_alias("foreign", "proj_2")
    error = await refusal(desk.vote(HEAD | pair()), InvalidRequest)
    assert (error.param, error.message) == (
        "alias",
        "Say which `alias` the pairs may train. This project's aliases are: assistant, doctor.",
    )
    assert (await desk.vote(HEAD | pair(alias="doctor"))).reply["target"]["alias"] == "doctor"
    assert (
        "There is no alias 'foreign'"
        in (await refusal(desk.vote(HEAD | pair(alias="foreign")), InvalidRequest)).message
    )


async def test_a_batch_is_stored_whole_and_answered_as_a_list(desk: Any) -> None:
    await desk.vote(HEAD | pair("a"))
    captured = await desk.vote(HEAD | {"pairs": [pair(text) for text in "abc"]})
    assert captured.created
    assert (captured.reply["object"], len(captured.reply["data"]), captured.reply["has_more"]) == ("list", 3, False)
    assert len(await all_rows(desk.database, Feedback)) == 3
    again = await desk.vote(HEAD | {"pairs": [pair(text) for text in "abc"]})
    assert not again.created


async def test_a_batch_with_one_bad_row_stores_nothing(desk: Any) -> None:
    rows = [pair(text) for text in "abc"] + [pair("same", "same")]
    error = await refusal(desk.vote(HEAD | {"pairs": rows}), InvalidRequest)
    assert "line 4: identical_outputs" in error.message
    assert await all_rows(desk.database, Feedback) == []


async def test_the_hash_of_a_prompt_is_that_of_the_contract(desk: Any) -> None:
    reply = (await desk.vote(HEAD | pair())).reply
    assert reply["target"]["prompt_hash"] == prompt_hash([Message(role="user", content="Hi")])


async def test_source_and_licence_are_kept_on_each_pair_and_a_row_may_say_its_own(desk: Any) -> None:
    own = {"prompt": "疼吗?", "chosen": "不疼。", "rejected": "?", "source": "ward", "licence": "CC0"}
    await desk.vote(HEAD | {"pairs": [pair(), own]})
    bodies = [row.body for row in await all_rows(desk.database, PairRow)]
    assert sorted((body["source"], body["licence"], body["basis"]) for body in bodies) == [
        ("crm", "internal", "import"),
        ("ward", "CC0", "import"),
    ]


async def test_a_batch_that_skips_bad_rows_stores_the_others_and_tells_of_them(desk: Any) -> None:
    captured = await desk.vote(HEAD | {"pairs": [pair("same", "same"), pair()], "on_error": "skip"})
    assert len(captured.reply["data"]) == 1
    assert [(error["line"], error["code"]) for error in captured.reply["errors"]] == [(1, "identical_outputs")]
    assert len(await all_rows(desk.database, PairRow)) == 1


async def test_a_pair_that_was_taken_back_counts_again_when_it_is_imported_again(desk: Any) -> None:
    first = await desk.vote(HEAD | pair())
    async with desk.database.write() as session:
        await desk.capture.retract(session, desk.caller, first.reply["id"])
    again = await desk.vote(HEAD | pair())
    assert (again.created, again.reply["id"], again.reply["revision"]) == (False, first.reply["id"], 2)
    assert [one["state"] for one in again.reply["pairs"]] == ["eligible"]
