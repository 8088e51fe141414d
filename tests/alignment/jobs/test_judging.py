"""A judge of candidates over a real HTTP server: both ways round, beside people's pairs, and in trouble."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from alignment.gate.rules.evidence import Judged
from alignment.jobs.contracts import ComparedAnswers
from alignment.jobs.judging import Comparison, judge_answers, judge_held_out
from gateway.contracts.message import Message
from gateway.judging.endpoint import JudgeEndpoint
from gateway.sections.annotation import GUIDELINE, JudgeSettings
from tests.gateway.annotation.endpoint import Endpoint, listening, longer

PROMPT = (Message(role="user", content="How long do eggs boil?"),)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """A judge that prefers the longer answer, wherever it stands."""
    async with listening() as endpoint:
        endpoint.says = longer
        yield endpoint


def settings(endpoint: Endpoint, **more: Any) -> JudgeSettings:
    given = {"base_url": endpoint.url, "model": "judge-1", "retry_seconds": 0.01, "max_attempts": 3, "concurrency": 4}
    return JudgeSettings.model_validate(given | more)


def answers(*pairs: tuple[str, str]) -> list[ComparedAnswers]:
    return [ComparedAnswers(prompt=PROMPT, candidate=ours, incumbent=theirs) for ours, theirs in pairs]


async def judged(endpoint: Endpoint, given: Sequence[ComparedAnswers], *human: tuple[str, str]) -> Judged:
    asked = settings(endpoint)
    pairs = [Comparison(PROMPT, *pair) for pair in human]
    return await judge_answers(asked, JudgeEndpoint(asked, GUIDELINE, "sk-judge"), given, pairs)


async def test_verdicts_are_counted_for_the_candidate_and_against_people(endpoint: Endpoint) -> None:
    given = answers(("longer", "long"), ("so", "longer"), ("one", "two"), ("same", "same"))
    found = await judged(endpoint, given, ("chosen one", "other"), ("no", "rejected"), ("tied", "even"))
    assert found == Judged(prompts=4, won=1, lost=1, tied=2, agreed=1, disagreed=1, pairs=3)
    assert len(endpoint.asked) == 2 * (3 + 3)  # two answers that are the same need no judge
    assert set(endpoint.keys) == {"Bearer sk-judge"}
    assert endpoint.most_at_once <= 4


async def test_a_judge_that_goes_by_the_side_has_no_say(endpoint: Endpoint) -> None:
    endpoint.says = lambda left, right: "left"
    found = await judged(endpoint, answers(("a", "b")), ("c", "d"))
    assert found == Judged(prompts=1, won=0, lost=0, tied=0, agreed=0, disagreed=0, pairs=1)
    endpoint.says = lambda left, right: "The answer is left"
    found = await judged(endpoint, answers(("a", "b")), ("c", "d"), ("e", "f"))
    assert (found.won, found.lost, found.pairs, found.unreadable) == (0, 0, 2, 3)  # it was asked for one word


async def test_a_call_that_fails_is_tried_again_and_one_that_always_fails_is_told(endpoint: Endpoint) -> None:
    replies = iter([500, 429, "left", "right"])
    endpoint.says = lambda left, right: next(replies)
    assert (await judged(endpoint, answers(("a", "b")))).won == 1
    endpoint.says = lambda left, right: 503
    found = await judged(endpoint, answers(("a", "b")))
    assert found.failure == f"{endpoint.url}: status 503"


async def test_a_key_that_is_not_set_is_told_and_nobody_is_asked(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    asked = settings(endpoint, api_key_env="JUDGE_KEY")
    found = await judge_held_out(asked, GUIDELINE, answers(("a", "b")), tmp_path / "none.parquet", 10)
    assert found.failure == "judge.api_key_env names JUDGE_KEY, which is not set"
    assert endpoint.asked == []
