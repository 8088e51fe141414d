"""Open WebUI's ratings, carried over by the bridge to a running Alignway that wrote the answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from examples.openwebui import bridge
from gateway.storage.feedback_tables import Feedback, PairRow
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
USER_HEADER = "x-openwebui-user-id"
SYSTEM, ASKED, ASKED_ALONE = "Be brief.", "我每天应该喝多少水?", "Why is the sky blue?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = stack_settings(tmp_path_factory.mktemp("openwebui"), users={"header": USER_HEADER})
    async with running(settings) as stack:
        yield stack


async def ask(stack: Stack, user: str, question: str) -> Any:
    """What Open WebUI sends for a chat with a system prompt, in the name of the user."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    stream = await stack.client.chat.completions.create(
        model="assistant", messages=messages, stream=True, extra_headers={USER_HEADER: user}
    )
    chunks = [chunk async for chunk in stream]
    return chunks[0].id, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def rating(number: int, user: str, question: str, answers: dict[str, str], rated: str, thumb: int) -> dict[str, Any]:
    """As `/api/v1/evaluations/feedbacks/all/export` has it: the rating, and the chat as a tree of messages."""
    asked = {"id": "u1", "parentId": None, "childrenIds": [*answers], "role": "user", "content": question}
    messages: dict[str, Any] = {"u1": asked | {"timestamp": 1795000000, "models": ["assistant"]}}
    for name, said in answers.items():
        messages[name] = {
            "id": name, "parentId": "u1", "childrenIds": [], "role": "assistant", "content": said,
            "model": "assistant", "modelName": "assistant", "modelIdx": 0, "timestamp": 1795000001, "done": True,
        }  # fmt: skip
    chat = {
        "title": "A chat", "models": ["assistant"], "params": {"system": SYSTEM},
        "history": {"messages": messages, "currentId": rated}, "messages": [],
    }  # fmt: skip
    return {
        "id": f"rating-{number}", "user_id": user, "version": 0, "type": "rating",
        "data": {"rating": thumb, "model_id": "assistant", "reason": "accurate_information", "comment": "", "tags": []},
        "meta": {"arena": False, "model_id": "assistant", "message_id": rated, "message_index": 1, "chat_id": "c1"},
        "snapshot": {"chat": {"id": "c1", "user_id": user, "title": "A chat", "chat": chat}},
        "created_at": 1795000002, "updated_at": 1795000003,
    }  # fmt: skip


async def carry(stack: Stack, folder: Path, ratings: list[dict[str, Any]], state: str = "state.json") -> int:
    export = folder / "feedback-history-export.json"
    export.write_text(json.dumps(ratings, ensure_ascii=False), encoding="utf-8")
    place = ["--export", str(export), "--alignway", f"{stack.url}/v1", "--key", ADMIN_KEY]
    return await asyncio.to_thread(bridge.main, [*place, "--state", str(folder / state)])


async def votes(stack: Stack) -> list[Feedback]:
    async with stack.database.read() as session:
        return list(await session.scalars(select(Feedback).order_by(Feedback.type)))


async def test_ratings_become_votes_on_the_answers_they_are_about_and_a_second_run_doubles_none(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await ask(stack, "user-1", ASKED)
    alone = await ask(stack, "user-2", ASKED_ALONE)
    release = await stack.make_release("NEWER")
    assert (await stack.ended((await stack.promote(release.id))["id"]))["state"] == "promoted"
    after = await ask(stack, "user-1", ASKED)  # regenerated, by what serves now
    assert before[1] != after[1]
    siblings = {"a1": before[1], "a2": after[1]}
    ratings = [
        rating(1, "user-1", ASKED, siblings, rated="a2", thumb=1),
        rating(2, "user-2", ASKED_ALONE, {"b1": alone[1]}, rated="b1", thumb=-1),
        rating(3, "user-2", "Of another model?", {"c1": "Not written here."}, rated="c1", thumb=1),
    ]
    assert await carry(stack, tmp_path, ratings) == 0
    assert json.loads(capsys.readouterr().out) == {"sent": 2, "unknown": 1}
    preference, thumb = await votes(stack)
    assert (preference.type, thumb.type, thumb.leaning) == ("preference", "rating", "down")
    assert thumb.body["target"]["completion_id"] == alone[0]
    async with stack.database.read() as session:
        [pair] = await session.scalars(select(PairRow))
    assert [pair.body[side]["completion_id"] for side in ("chosen", "rejected")] == [after[0], before[0]]
    assert pair.chosen_release == release.id
    assert preference.rater_hash != thumb.rater_hash
    assert preference.rater_kind == thumb.rater_kind == "end_user"

    assert await carry(stack, tmp_path, ratings) == 0
    assert json.loads(capsys.readouterr().out) == {"unchanged": 2, "unknown": 1}
    assert await carry(stack, tmp_path, ratings, state="lost.json") == 0  # sent again, from the beginning
    assert json.loads(capsys.readouterr().out) == {"sent": 2, "unknown": 1}
    assert [(vote.id, vote.revision) for vote in await votes(stack)] == [(preference.id, 1), (thumb.id, 1)]

    assert await carry(stack, tmp_path, ratings[1:]) == 0
    assert json.loads(capsys.readouterr().out) == {"retracted": 1, "unchanged": 1, "unknown": 1}
    assert [vote.status for vote in await votes(stack)] == ["retracted", "active"]
