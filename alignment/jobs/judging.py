"""Lets a judge compare what candidate and incumbent answer, once it is known how far it agrees with people."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import aiohttp

from alignment.gate.rules.evidence import Judged
from alignment.jobs.contracts import ComparedAnswers
from gateway.contracts.message import Message
from gateway.datasets.pair_file import read_pairs
from gateway.judging.endpoint import JudgeEndpoint, JudgeFailed
from gateway.judging.judgement import FIRST, SECOND, TIE, UNREADABLE
from gateway.sections.annotation import JudgeSettings

PEOPLE = ("end_user", "annotator")


class Comparison(NamedTuple):
    """Two answers to one prompt."""

    prompt: Sequence[Message]
    first: str
    second: str


def pairs_of_people(pairs_file: Path, most: int) -> list[Comparison]:
    """Held-out pairs that people judged, one for each prompt, in the order of their hashes; the chosen side first."""
    found = {pair.prompt_hash: pair for pair in read_pairs(pairs_file) if pair.rater.kind in PEOPLE}
    pairs = (found[prompt] for prompt in sorted(found))
    return [Comparison(one.prompt, one.chosen.message.text, one.rejected.message.text) for one in islice(pairs, most)]


async def judge_held_out(
    settings: JudgeSettings, guideline: str, answers: Sequence[ComparedAnswers], pairs_file: Path, most: int
) -> Judged:
    """What the configured judge says; what keeps it from saying anything is in the result, too."""
    key = None
    if settings.api_key_env is not None and not (key := os.environ.get(settings.api_key_env)):
        return _failed(answers, f"judge.api_key_env names {settings.api_key_env}, which is not set")
    human = await asyncio.to_thread(pairs_of_people, pairs_file, most)
    return await judge_answers(settings, JudgeEndpoint(settings, guideline, key), answers, human)


async def judge_answers(
    settings: JudgeSettings, endpoint: JudgeEndpoint, answers: Sequence[ComparedAnswers], human: Sequence[Comparison]
) -> Judged:
    """Ask the judge about people's pairs and about the answers, both ways round."""
    compared = [Comparison(one.prompt, one.candidate, one.incumbent) for one in answers]
    differing = [one for one in compared if one.first != one.second]
    try:
        agreement = await _verdicts(settings, endpoint, human)
        verdicts = await _verdicts(settings, endpoint, differing)
    except JudgeFailed as error:
        return _failed(answers, str(error))
    return Judged(
        prompts=len(answers),
        won=verdicts[FIRST],
        lost=verdicts[SECOND],
        tied=verdicts[TIE] + len(compared) - len(differing),
        agreed=agreement[FIRST],
        disagreed=agreement[SECOND],
        pairs=len(human),
        unreadable=agreement[UNREADABLE] + verdicts[UNREADABLE],
    )


async def _verdict(endpoint: JudgeEndpoint, http: aiohttp.ClientSession, comparison: Comparison) -> str:
    """A consistent verdict, or why there is none."""
    outcome, verdict = await endpoint.compare(http, *comparison)
    return verdict or outcome


def _failed(answers: Sequence[ComparedAnswers], why: str) -> Judged:
    return Judged(len(answers), 0, 0, 0, 0, 0, failure=why)


async def _verdicts(settings: JudgeSettings, endpoint: JudgeEndpoint, asked: Sequence[Comparison]) -> Counter[str]:
    """How often each consistent verdict came, or what came instead. Raises `JudgeFailed` once a call is given up."""
    room = asyncio.Semaphore(settings.concurrency)

    async def one(http: aiohttp.ClientSession, comparison: Comparison) -> str:
        async with room:
            for attempt in range(1, settings.max_attempts):
                with contextlib.suppress(JudgeFailed):
                    return await _verdict(endpoint, http, comparison)
                await asyncio.sleep(settings.retry_seconds * 2 ** (attempt - 1))
            return await _verdict(endpoint, http, comparison)

    async with endpoint.session() as http:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(http, comparison)) for comparison in asked]
        except* JudgeFailed as failed:
            reason = str(failed.exceptions[0])
            raise JudgeFailed(f"{settings.base_url}: {reason}") from failed
    return Counter(task.result() for task in tasks)
