"""A completion is found by what it says or by its metadata, whenever it was recorded, and only in its own project."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.feedback.lookup import AmbiguousTarget, resolve
from gateway.feedback.targets import CompletionNotStored
from gateway.settings import FeedbackSettings, IgnoredText
from tests.patience import patient


def by_text(content: str, prompt: str = "Is it safe?") -> dict[str, Any]:
    return {"match": {"messages": [{"role": "user", "content": prompt}], "content": content}}


async def find(
    desk: Any, reference: dict[str, Any], settings: FeedbackSettings | None = None, seconds: float = 0.01
) -> Any:
    body = {"type": "rating", "target": reference}
    settings = (settings or FeedbackSettings()).model_copy(update={"completion_wait_seconds": seconds})
    return (await resolve(desk.database, desk.caller, body, settings))["target"]


async def test_a_choice_is_found_by_its_prompt_and_text(desk: Any) -> None:
    wanted = await desk.complete("No.", "Yes, it is.\n")
    await desk.complete("Yes, it is.", prompt="Is it far?")
    assert await find(desk, by_text("Yes, it is.")) == {"completion_id": wanted, "index": 1}


async def test_chinese_text_is_found_in_any_unicode_form(desk: Any) -> None:
    wanted = await desk.complete("可以。Café", prompt="安全吗?")
    assert await find(desk, by_text("可以。Cafe\u0301  ", prompt="安全吗?")) == {"completion_id": wanted, "index": 0}


async def test_a_completion_recorded_after_the_first_look_is_found(desk: Any) -> None:
    await desk.complete("No.")
    with pytest.raises(CompletionNotStored, match="fits `match`"):
        await find(desk, by_text("Yes."))
    late = await desk.complete("Yes.")
    assert (await find(desk, by_text("Yes.")))["completion_id"] == late
    # One that took long was begun before those that are looked up already.
    slow = await desk.complete("Maybe.", created_at=time.time() - 1800)
    assert (await find(desk, by_text("Maybe.")))["completion_id"] == slow


async def test_an_answer_that_is_still_being_written_is_waited_for(desk: Any) -> None:
    waiting = asyncio.create_task(find(desk, by_text("Late."), seconds=5))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    late = await desk.complete("Late.")
    assert (await asyncio.wait_for(waiting, patient(1)))["completion_id"] == late


async def test_a_completion_is_found_by_all_of_its_metadata(desk: Any) -> None:
    wanted = await desk.complete("No.", "Yes.", call_metadata={"message_id": "m1", "app": "helpdesk"})
    await desk.complete("No.", call_metadata={"message_id": "m1", "app": "other"})
    reference = {"metadata": {"message_id": "m1", "app": "helpdesk"}, "index": 1}
    assert await find(desk, reference) == {"completion_id": wanted, "index": 1}
    with pytest.raises(CompletionNotStored):
        await find(desk, {"metadata": {"message_id": "m1", "app": "nobody's"}})


async def test_several_that_fit_are_a_conflict_that_says_how_many(desk: Any) -> None:
    for _ in range(3):
        newest = await desk.complete("No.")
    with pytest.raises(AmbiguousTarget, match=f"3 choices fit this description, the newest in {newest}"):
        await find(desk, by_text("No."))


async def test_another_projects_completions_are_not_found(desk: Any) -> None:
    await desk.complete("No.", project_id="proj_2")
    with pytest.raises(CompletionNotStored):
        await find(desk, by_text("No."))


async def test_with_scope_key_only_the_keys_own_are_found(desk: Any) -> None:
    own_only = FeedbackSettings(scope="key")
    await desk.complete("No.", key_id="key_other")
    with pytest.raises(CompletionNotStored):
        await find(desk, by_text("No."), own_only)
    own = await desk.complete("No.", key_id=desk.caller.key_id)
    assert (await find(desk, by_text("No."), own_only))["completion_id"] == own
    with pytest.raises(AmbiguousTarget):
        await find(desk, by_text("No."))


async def test_what_is_ignored_is_ignored_here_too_also_for_what_was_looked_up_before(desk: Any) -> None:
    wanted = await desk.complete("No.", prompt="[10:05] Is it safe?")
    with pytest.raises(CompletionNotStored):
        await find(desk, by_text("No."))
    settings = FeedbackSettings(ignore=(IgnoredText(pattern=r"\[\d\d:\d\d\] "),))
    assert (await find(desk, by_text("No."), settings))["completion_id"] == wanted
    assert (await find(desk, by_text("No.", prompt="[23:59] Is it safe?"), settings))["completion_id"] == wanted


async def test_chores_are_not_found(desk: Any) -> None:
    await desk.complete("No.", call_metadata={"task": "title"})
    with pytest.raises(CompletionNotStored):
        await find(desk, by_text("No."))


async def test_references_are_found_wherever_a_body_names_choices(desk: Any) -> None:
    ids = [await desk.complete(text) for text in ("One.", "Two.", "Three.")]
    body = {
        "type": "ranking",
        "ranking": [[by_text("Two.")], [by_text("One."), {"completion_id": ids[2]}]],
        "metadata": {"match": "left alone"},
    }
    found = await resolve(desk.database, desk.caller, body, desk.settings)
    assert found["ranking"] == [
        [{"completion_id": ids[1], "index": 0}],
        [{"completion_id": ids[0], "index": 0}, {"completion_id": ids[2]}],
    ]
    assert found["metadata"] == {"match": "left alone"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"match": {"content": "No."}}, "match.messages"),
        ({"match": {"messages": [], "content": "No."}}, "match.messages"),
        ({"match": None}, "Name a choice by one of"),
        ({"metadata": {"a": "b"}, "match": {"messages": [{"role": "user", "content": "x"}], "content": "y"}}, "one of"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "b"}, "index": -1}, "index"),
        ({"metadata": {"a": "b"}, "other": 1}, "other"),
    ],
)
async def test_a_reference_that_cannot_be_read_is_refused_with_its_place(
    desk: Any, reference: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await find(desk, reference)


async def test_a_vote_of_a_key_on_another_keys_completion_is_an_unknown_one(desk: Any) -> None:
    desk.settings = FeedbackSettings(scope="key")
    own, other = await desk.complete("Yes.", key_id="key_voter"), await desk.complete("No.")
    with pytest.raises(CompletionNotStored, match=other):
        await desk.prefer(own, other)
    own_too = await desk.complete("No.", key_id="key_voter")
    assert (await desk.prefer(own, own_too)).created
    stranger = replace(desk.caller, key_id="key_stranger")
    with pytest.raises(CompletionNotStored):
        await desk.vote(
            {"type": "preference", "chosen": {"completion_id": own}, "rejected": [{"completion_id": own_too}]}, stranger
        )
