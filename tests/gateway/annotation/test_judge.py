"""The judge, over a real HTTP server that speaks OpenAI's shape: both orders, strict reading, and trouble."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.annotation.judge import Judge
from gateway.app import comparing
from gateway.judging.judgement import combined, question, read_verdict
from gateway.settings import Settings
from gateway.storage.annotation_tables import AnnotationJudgement
from gateway.storage.feedback_tables import Completion, Feedback
from gateway.storage.group_commit import GroupCommit
from gateway.storage.judgements import count_judgements
from tests.gateway.annotation.endpoint import Endpoint, first_then_second
from tests.gateway.annotation.office import Office, annotator
from tests.gateway.relay.served import chat, gateway


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


async def test_from_a_chat_to_a_second_answer_to_a_judges_vote(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.says = lambda left, right: "left" if left == "second" else "right"
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    judge = {"base_url": endpoint.url, "model": "judge-1", "api_key_env": "JUDGE_KEY"}
    async with gateway(tmp_path, comparisons={"share": 1.0}, judge=judge) as served:
        served.engine.behaviour = first_then_second("first", "second")
        await served.send(chat(close=True))
        async with asyncio.timeout(10):
            while True:
                async with served.services.database.read() as session:
                    vote = await session.scalar(select(Feedback))
                    if vote is not None:
                        break
                await asyncio.sleep(0.1)
        async with served.services.database.read() as session:
            chosen = await session.get_one(Completion, vote.body["chosen"]["completion_id"])
    assert (vote.rater_kind, chosen.choices[0]["message"]["content"]) == ("judge", "second")
    assert set(endpoint.keys) == {"Bearer sk-secret"}


async def test_a_judge_whose_key_is_not_set_is_off(tmp_path: Path) -> None:
    judge = {"base_url": "http://127.0.0.1:9/v1", "model": "judge-1", "api_key_env": "NO_SUCH_KEY_IS_SET"}
    async with gateway(tmp_path, judge=judge) as served:
        assert comparing(served.services) == []
