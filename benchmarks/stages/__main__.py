"""From the last vote to the first answer of the new release, stage by stage, and back: the real vLLM, the real aligner.

    python -m benchmarks.stages

Pairs are voted for until the threshold `aligner.min_new_pairs` starts a run by itself. Its release is promoted, merged,
at once, without a canary: how long one dwells is a setting. Then the alias is rolled back. A clock is asked at
every step; what the database recorded of a stage is taken from there.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.record import record
from benchmarks.swap.site import ALIAS
from benchmarks.swap.vllm import READY_SECONDS, settings_of
from gateway.demo.prompts import load_prompts
from gateway.rollout.plan import plan
from gateway.rollout.snapshot import snapshot_of
from gateway.storage.feedback_tables import Run, RunEvent
from gateway.storage.tables import ReleaseRow, RolloutStep
from tests.stack import Stack, running

NAME = "stages"
STAGES = ("freezing", "training", "evaluating", "merging", "publishing")
TRAINED_SECONDS = 3600.0
ENDED = ("promoted", "rolled_back", "stopped")
MIN_NEW_PAIRS = 40
ALIGNER = {"enabled": True, "min_new_pairs": MIN_NEW_PAIRS, "auto_min_train_pairs": 20, "auto_min_holdout_pairs": 1}
NEVER = 1e9
GATES = {"kl_block": NEVER, "perplexity_block": NEVER, "repeats_block": NEVER, "ended_block": 1, "accuracy_block": 0}
"""All is measured, and nothing blocks: so few pairs of one sentence make no good model."""
CHOSEN = "Certainly. In short, people meet this every day, and make good use of what is known of it."


async def vote_until_a_run_begins(stack: Stack) -> tuple[Run, float]:
    """Send pairs one by one; the run that the threshold queued, and when the last vote before it was acknowledged."""
    acknowledged: list[float] = []
    for pair in _pairs():
        status, answer = await stack.call("POST", "/v1/feedback", pair)
        if status != 201:
            raise RuntimeError(f"a pair was refused with {status}: {answer}")
        acknowledged.append(time.time())
        if len(acknowledged) >= MIN_NEW_PAIRS:
            await asyncio.sleep(2.5)  # the threshold is looked at every second
        async with stack.database.read() as session:
            run = await session.scalar(select(Run))
        if run is not None:
            return run, max(at for at in acknowledged if at <= run.created_at)
    raise AssertionError("unreachable")


def _pairs() -> Iterator[dict[str, Any]]:
    """One pair about each of the demo's teaching prompts: plain words against the same in disorder."""
    for number in count():
        prompt = load_prompts().teaching[number]
        row = {
            "input": {"messages": [{"role": "user", "content": prompt}]},
            "preferred_output": [{"role": "assistant", "content": CHOSEN}],
            "non_preferred_output": [{"role": "assistant", "content": " ".join(sorted(CHOSEN.split()))}],
        }
        yield {"type": "pair", "source": "proof", "licence": "internal", "pairs": [row]}


async def trained(stack: Stack, run_id: str) -> Run:
    """The run once it has succeeded."""
    async with asyncio.timeout(TRAINED_SECONDS):
        while True:
            async with stack.database.read() as session:
                run = await session.get_one(Run, run_id)
            if run.state in ("failed", "cancelled"):
                raise RuntimeError(f"the run ended as {run.state}: {run.error}")
            if run.state == "succeeded":
                return run
            await asyncio.sleep(0.5)


async def stage_seconds(stack: Stack, run: Run) -> dict[str, float]:
    """How long each stage of a run took, by its own events."""
    async with stack.database.read() as session:
        rows = select(RunEvent).where(RunEvent.run_id == run.id, RunEvent.message.in_(STAGES)).order_by(RunEvent.at)
        began = [(event.message, event.at) for event in await session.scalars(rows)]
    ends = [*began, ("end", run.finished_at or time.time())]
    return {name: round(after - at, 2) for (name, at), (_, after) in pairwise(ends)}


async def first_answer(stack: Stack, path: str, body: dict[str, Any], release_id: str) -> dict[str, Any]:
    """Ask for a promotion or rollback; from the call to the first answer of the release, and to the rollout's end."""
    began, wall = time.monotonic(), time.time()
    status, rollout = await stack.call("POST", f"/admin/v1/aliases/{ALIAS}/{path}", body | {"reason": "proof"})
    if status != 202:
        raise RuntimeError(f"{path} was refused with {status}: {rollout}")
    while (await stack.ask("Hello.", max_tokens=1)).system_fingerprint != release_id:
        await asyncio.sleep(0.01)
    answered = time.monotonic() - began
    ended = await stack.ended(rollout["id"], READY_SECONDS)
    async with stack.database.read() as session:
        rows = select(RolloutStep).where(RolloutStep.rollout_id == rollout["id"]).order_by(RolloutStep.at)
        steps = {step.to_state: round(step.at - wall, 3) for step in await session.scalars(rows)}
    return {
        "state": ended["state"],
        "first_answer_seconds": round(answered, 3),
        "ended_seconds": round(time.monotonic() - began, 3),
        "steps_after_seconds": steps,
    }


async def at_rest(stack: Stack) -> None:
    """Wait until nothing is to be done: what a rollback needs is loaded then."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            async with stack.database.read() as session:
                seen = await snapshot_of(session, ALIAS, time.time())
            held = all(replica.adapters == replica.desired_adapters for replica in seen.replicas)
            if held and not plan(seen):
                return
            await asyncio.sleep(0.1)


async def measure() -> dict[str, Any]:
    """One loop, there and back."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(Path(folder), aligner=ALIGNER, gates=GATES, server={"workers": 1})
        async with running(settings, READY_SECONDS) as stack:
            _, alias = await stack.call("GET", f"/admin/v1/aliases/{ALIAS}")
            queued, last_vote = await vote_until_a_run_begins(stack)
            run = await trained(stack, queued.id)
            stages = await stage_seconds(stack, run)
            async with stack.database.read() as session:
                release = await session.get_one(ReleaseRow, run.release_id)
            asked = time.time()
            promotion = await first_answer(stack, "promote", {"release": release.id}, release.id)
            from_vote = asked + promotion["first_answer_seconds"] - last_vote
            await at_rest(stack)
            rollback = await first_answer(stack, "rollback", {}, alias["serving_release"])
            return {
                "holdout_pairs": release.manifest["metrics"]["holdout_pairs"],
                "train_steps": release.manifest["metrics"]["train_steps"],
                "last_vote_to_run_queued_seconds": round(run.created_at - last_vote, 2),
                "queued_to_started_seconds": round((run.started_at or 0) - run.created_at, 2),
                "stages_seconds": stages,
                "announced_to_promotion_asked_seconds": round(asked - (run.finished_at or asked), 2),
                "promotion": promotion,
                "last_vote_to_first_answer_seconds": round(from_vote, 2),
                "merge_and_swap_seconds": round(stages["merging"] + promotion["ended_seconds"], 2),
                "rollback": rollback,
            }


def main() -> None:
    """Run, record and print."""
    argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__).parse_args()
    found = asyncio.run(measure())
    print(f"{found}\n{record(NAME, found)}")


if __name__ == "__main__":
    main()
