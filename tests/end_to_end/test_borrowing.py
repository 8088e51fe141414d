"""A run borrows an engine of a served alias through real gateway workers and a real agent: nobody's request fails."""

import asyncio
import time
from pathlib import Path
from typing import Any

from alignment.ledger import RunLedger
from alignment.placing import placed
from gateway.contracts.training import TrainingOptions
from gateway.sections.aligner import AlignerSettings
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import claim_next_run, create_run
from gateway.storage.tables import Replica
from tests.stack import Stack, running, stack_settings

BORROW = AlignerSettings(devices="borrow")


async def claimed(stack: Stack, **columns: Any) -> tuple[Run, RunLedger]:
    async with stack.database.write() as session:
        options = TrainingOptions()
        await create_run(
            session, alias="assistant", trigger="manual", actor="k", options=options, now=time.time(), **columns
        )
        run = await claim_next_run(session, "aligner_1", 600.0, time.time())
    assert run is not None
    return run, RunLedger(stack.database, run.id, "aligner_1", 600.0)


async def phase(stack: Stack, replica: str) -> str:
    async with stack.database.read() as session:
        return (await session.get_one(Replica, replica)).phase


async def test_an_engine_is_borrowed_under_traffic_and_no_request_fails(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "args": ["--chunk-seconds", "0.01"]}
    model = {"model": str(tmp_path / "model"), "engine": engine, "replicas": 2}
    async with running(stack_settings(tmp_path, models=[model])) as stack:
        answers: list[str] = []
        over = False

        async def go_on_asking(number: int) -> None:
            while not over:
                answer = await stack.ask(f"question {number} {len(answers)} [words:20]")
                answers.append(answer.choices[0].message.content)

        async def both_serve() -> bool:
            return [await phase(stack, f"assistant-{number}") for number in (1, 2)] == ["ready", "ready"]

        askers = [asyncio.create_task(go_on_asking(number)) for number in range(4)]
        await stack.until(both_serve)
        run, ledger = await claimed(stack)
        async with placed(stack.database, run, BORROW, ledger, lambda: False):
            assert await phase(stack, "assistant-2") == "lent"
            before = len(answers)
            await stack.until(lambda: asyncio.sleep(0, len(answers) >= before + 8))

        async def is_back() -> bool:
            return await phase(stack, "assistant-2") == "ready"

        await stack.until(is_back)
        over = True
        await asyncio.gather(*askers)  # raises what any of them was refused
        assert all(answer.startswith("BASE ") for answer in answers)
