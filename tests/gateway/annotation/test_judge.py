"""The judge, over a real HTTP server that speaks OpenAI's shape: both orders, strict reading, and trouble."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select

from gateway.annotation.judge import Judge
from gateway.annotation.judgement import combined, question, read_verdict
from gateway.settings import Settings
from gateway.storage.annotation_tables import AnnotationJudgement
from gateway.storage.group_commit import GroupCommit
from gateway.storage.judgements import count_judgements
from tests.gateway.annotation.office import Office, annotator

SIDES = re.compile(r"<left>\n(.*?)\n</left>.*<right>\n(.*?)\n</right>", re.DOTALL)
Says = Callable[[str, str], str | int]


class Endpoint:
    """Replies as its rule says: a word, or a number for a status."""

    def __init__(self) -> None:
        self.says: Says = lambda left, right: "tie"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        found = SIDES.search(body["messages"][0]["content"])
        assert found is not None
        said = self.says(*found.groups())
        if isinstance(said, int):
            return web.json_response({"error": {"message": "no"}}, status=said)
        return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]})


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield endpoint
    await runner.cleanup()


class Bench:
    """A judge over an office."""

    def __init__(self, office: Office, endpoint: Endpoint, **settings: Any) -> None:
        self.office = office
        self._votes = GroupCommit(office.database, "durable")
        judge = {"base_url": endpoint.url, "model": "judge-1", "timeout_seconds": 2.0} | settings
        all_settings = Settings.model_validate({"judge": judge})
        self.judge = Judge(office.database, all_settings, office.secrets, self._votes, "gw_1", api_key="sk-judge")

    async def step(self, now: float | None = None) -> int:
        return await self.judge.step(now or time.time())

    async def states(self) -> list[str]:
        async with self.office.database.read() as session:
            rows = await session.scalars(select(AnnotationJudgement).order_by(AnnotationJudgement.task_id))
            return [row.state for row in rows]


def test_a_verdict_is_one_word_and_nothing_else() -> None:
    assert [read_verdict(text) for text in ("left", " Right.\n", "TIE", "left。")] == ["left", "right", "tie", "left"]
    for text in ("", "left is better", "A", "leftright", "I choose: left", "左", "left or right"):
        assert read_verdict(text) is None


def test_only_what_holds_both_ways_round_counts() -> None:
    assert combined("left", "right") == ("consistent", "first")
    assert combined("right", "left") == ("consistent", "second")
    assert combined("tie", "tie") == ("consistent", "tie")
    assert combined("left", "left") == combined("right", "right") == combined("tie", "left") == ("inconsistent", None)
    assert combined("left", "the first one") == ("unreadable", None)


def test_a_text_cannot_fill_in_the_places_of_the_question() -> None:
    asked = question("{guideline}|{prompt}|{left}|{right}", guideline="g", prompt="{left}", left="{right}", right="r")
    assert asked == "g|{left}|{right}|r"


async def test_a_consistent_verdict_becomes_a_vote_of_the_kind_judge(office: Office, endpoint: Endpoint) -> None:
    good, _ = await office.comparison("吃药前先问医生。", "随便吃。")
    endpoint.says = lambda left, right: "left" if "医生" in left else "right"
    bench = Bench(office, endpoint)
    assert await bench.step() == 1
    (vote,), (pair,) = await office.votes(), await office.pairs()
    assert (vote.rater_kind, vote.body["chosen"]["completion_id"]) == ("judge", good)
    assert pair.body["rater"]["kind"] == "judge"
    assert len(endpoint.asked) == 2
    assert "user: Is it safe?" in endpoint.asked[0]["messages"][0]["content"]
    assert (endpoint.asked[0]["model"], endpoint.asked[0]["temperature"]) == ("judge-1", 0)
    assert endpoint.keys == ["Bearer sk-judge"] * 2
    assert await bench.step() == 0  # once is enough
    assert (await office.claim(annotator("anna")))["asks"] == "verdict"  # people get it all the same


async def test_a_judge_that_always_says_left_makes_no_vote(office: Office, endpoint: Endpoint) -> None:
    for number in range(3):
        await office.comparison(f"A{number}", f"B{number}")
    endpoint.says = lambda left, right: "left"
    bench = Bench(office, endpoint)
    await bench.step()
    assert await office.votes() == []
    async with office.database.read() as session:
        assert await count_judgements(session, "assistant") == {"inconsistent": 3}


async def test_a_reply_that_is_not_one_of_the_words_makes_no_vote(office: Office, endpoint: Endpoint) -> None:
    await office.comparison()
    endpoint.says = lambda left, right: "The left one, I think."
    bench = Bench(office, endpoint)
    await bench.step()
    assert (await bench.states(), await office.votes()) == (["unreadable"], [])


async def test_a_call_that_failed_is_tried_again_later_and_later_and_then_given_up(
    office: Office, endpoint: Endpoint
) -> None:
    await office.comparison("A", "B")
    endpoint.says = lambda left, right: 500
    bench, now = Bench(office, endpoint, retry_seconds=10, max_attempts=3), time.time()
    assert await bench.step(now) == 1
    assert await bench.step(now + 9) == 0
    assert await bench.step(now + 11) == 1
    assert await bench.step(now + 11 + 19) == 0
    assert (await bench.states(), len(endpoint.asked)) == (["waiting"], 2)
    assert await bench.step(now + 11 + 21) == 1
    assert await bench.states() == ["failed"]
    assert await bench.step(now + 10_000) == 0


async def test_a_call_that_failed_once_is_made_good(office: Office, endpoint: Endpoint) -> None:
    await office.comparison("A", "B")
    replies = iter([429])
    endpoint.says = lambda left, right: next(replies, "tie")
    bench, now = Bench(office, endpoint), time.time()
    await bench.step(now)
    await bench.step(now + 11)
    (vote,) = await office.votes()
    assert (vote.body["verdict"], await bench.states()) == ("tie", ["consistent"])


async def test_an_endpoint_that_is_away_or_talks_nonsense_has_failed(office: Office, endpoint: Endpoint) -> None:
    await office.comparison("A", "B")
    bench = Bench(office, endpoint, base_url="http://127.0.0.1:9/v1")
    await bench.step()
    assert (await bench.states(), await office.votes()) == (["waiting"], [])


async def test_it_judges_its_share_and_no_more_at_once_than_it_may(office: Office, endpoint: Endpoint) -> None:
    for number in range(16):
        await office.comparison(f"A{number}", f"B{number}")
    bench = Bench(office, endpoint, share=0.5, concurrency=3)
    while await bench.step():
        pass
    states = await bench.states()
    assert len(states) == 16
    assert 3 <= states.count("left_out") <= 13
    assert 2 <= endpoint.most_at_once <= 3


async def test_two_workers_do_not_judge_the_same(office: Office, endpoint: Endpoint) -> None:
    await office.comparison("A", "B")
    one, other = Bench(office, endpoint), Bench(office, endpoint)
    other.judge._holder = "gw_2"
    assert [await one.step(), await other.step()] == [1, 0]
    await office.comparison("C", "D")
    assert [await other.step(), await one.step()] == [0, 1]
