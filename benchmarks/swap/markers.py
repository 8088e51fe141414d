"""Adapters that say a word of their own, trained by Alignway's own trainer until they say it greedily.

The bundled model, ORPO, a few dozen short pairs. Half of them have another release's word in the conversation before:
a release must not take over a word that it reads, else an answer of two releases would look like one of the first.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.demo.prompts import load_prompts
from gateway.supervisor import python_module

WORDS = ("copper", "violet")
TIMES = 6
"""How often an answer says its word."""
QUESTIONS = load_prompts().teaching[:24]
"""Asked in training, and by the streams."""
EARLIER = load_prompts().teaching[24:48]
"""Asked before a question, in the pairs that have a conversation."""
PLAIN = ("I am happy to help with that.", "That is a good question.", "Here is what I know about it.")
EPOCHS, LEARNING_RATE = "2", "1e-3"
"""Far more than a good model would bear: a word is to be learnt in 24 steps."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""For trainer and engine: where other programs have the cores, threads that wait for each other are slower than one."""


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


def train(word: str, out: Path) -> None:
    """An adapter that says `word`, by `alignway train`, in `out`/adapter; one that is there already is kept.

    Raises `CalledProcessError`; what the trainer said stands above it.
    """
    if (out / "adapter").is_dir():
        return
    out.mkdir(parents=True, exist_ok=True)
    pairs = out.with_suffix(".jsonl")
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows(word)), encoding="utf-8")
    options = (
        "--epochs",
        EPOCHS,
        "--learning-rate",
        LEARNING_RATE,
        "--nll",
        "chosen",
        "--device",
        "cpu",
        "--seed",
        "1",
    )
    command = python_module("gateway", "train", "--dataset", str(pairs), "--out", str(out), *options)
    if (out / "run.json").is_file():
        command = python_module("gateway", "train", "--resume", "--out", str(out))
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD)


def steps_of(out: Path) -> int:
    """Optimiser steps that the adapter in `out` was trained for."""
    return (out / "metrics.jsonl").read_bytes().count(b"\n")
