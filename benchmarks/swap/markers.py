"""Releases that say a word of their own: trained by fine-tuning jobs through the openai SDK until they say it greedily.

The bundled model, ORPO, a few dozen short pairs. Half of them have another release's word in the conversation before:
a release must not take over a word that it reads, else an answer of two releases would look like one of the first.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI

from gateway.demo.prompts import load_prompts

WORDS = ("copper", "violet", "pepper")
TIMES = 6
"""How often an answer says its word."""
QUESTIONS = load_prompts().teaching[:24]
"""Asked in training, and by the streams."""
EARLIER = load_prompts().teaching[24:48]
"""Asked before a question, in the pairs that have a conversation."""
PLAIN = ("I am happy to help with that.", "That is a good question.", "Here is what I know about it.")
EPOCHS = (2, 4, 8)
"""A release that does not say its word yet is trained again, for longer."""
RATE_MULTIPLIER = 5.0
JOB_SECONDS = 1800.0
OVER = ("succeeded", "failed", "cancelled")


class NotLearnt(RuntimeError):
    """A release does not say its word."""


def said(word: str) -> str:
    """What a release answers to everything."""
    return " ".join([word] * TIMES)


def rows(word: str) -> Iterator[dict[str, Any]]:
    """Pairs in TRL's conversational form: each question by itself, and behind an answer of somebody else."""
    others = [other for other in WORDS if other != word]
    for number, (question, earlier) in enumerate(zip(QUESTIONS, EARLIER, strict=True)):
        other = others[number % len(others)]
        asked = {"role": "user", "content": question}
        yield _row([asked], word, PLAIN[number % len(PLAIN)] if number % 2 else said(other))
        before = [{"role": "user", "content": earlier}, {"role": "assistant", "content": said(other)}]
        yield _row([*before, asked], word, said(other))


def _row(prompt: list[dict[str, str]], word: str, rejected: str) -> dict[str, Any]:
    answers = {"chosen": said(word), "rejected": rejected}
    return {"prompt": prompt} | {side: [{"role": "assistant", "content": content}] for side, content in answers.items()}


@dataclass(frozen=True)
class Teacher:
    """Trains through the public API of a running Alignway."""

    client: AsyncOpenAI
    alias: str

    async def train(self, word: str, epochs: int) -> str:
        """One job, to its end; the name of its release. Raises `NotLearnt` if the job failed."""
        lines = "".join(json.dumps(row) + "\n" for row in rows(word))
        file = await self.client.files.create(file=(f"{word}.jsonl", lines.encode()), purpose="fine-tune")
        rates = {"n_epochs": epochs, "learning_rate_multiplier": RATE_MULTIPLIER}
        method: Any = {"type": "orpo", "orpo": {"hyperparameters": rates}}
        job = await self.client.fine_tuning.jobs.create(model=self.alias, training_file=file.id, method=method, seed=1)
        async with asyncio.timeout(JOB_SECONDS):
            while job.status not in OVER:
                await asyncio.sleep(1.0)
                job = await self.client.fine_tuning.jobs.retrieve(job.id)
        if job.status != "succeeded" or job.fine_tuned_model is None:
            raise NotLearnt(f"the job for {word!r} ended as {job.status}: {job.error}")
        return job.fine_tuned_model

    async def answers(self, model: str, max_tokens: int) -> list[str]:
        """What a model says greedily to each question."""
        asked = [
            self.client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], max_tokens=max_tokens, temperature=0
            )
            for question in QUESTIONS
        ]
        return [reply.choices[0].message.content or "" for reply in await asyncio.gather(*asked)]
