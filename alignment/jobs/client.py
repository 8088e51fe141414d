"""The other end of the training process: start it, give it jobs, learn how they go, and explain its death."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from alignment.errors import AlignmentError, JobFailed, TrainingStopped
from alignment.jobs.contracts import (
    EvaluateJob,
    EvaluateResult,
    Failure,
    MergeJob,
    MergeResult,
    Order,
    Report,
    TrainJob,
    TrainResult,
)

_LINE_BYTES = 1 << 27
"""Of one report: a measurement says what it found of every held-out pair."""
# Threads that wait for each other sleep. Spinning, they would take the cores from the engine that answers people,
# and where cores are scarce they would mostly wait for a thread that cannot run because they spin.
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
OnProgress = Callable[[dict[str, float]], None]
OnCheckpoint = Callable[[int], None]
Result = TypeVar("Result", TrainResult, EvaluateResult, MergeResult)


class TrainerDied(JobFailed):
    """The training process ended in the middle of a job; trying again may help."""


class TrainerProcess:
    """A process of its own for everything heavy: if it runs out of memory, nothing else dies with it."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self._process = process
        self._log_file = log_file

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def train(
        self, job: TrainJob, on_progress: OnProgress, on_checkpoint: OnCheckpoint = lambda _: None
    ) -> TrainResult:
        """Train; `on_progress` gets every step's metrics, `on_checkpoint` the step of each checkpoint.

        Raises `TrainingStopped` after `stop`.
        """
        return await self._ask(job, TrainResult, on_progress, on_checkpoint)

    async def evaluate(self, job: EvaluateJob) -> EvaluateResult:
        """Measure."""
        return await self._ask(job, EvaluateResult)

    async def merge(self, job: MergeJob) -> MergeResult:
        """Merge."""
        return await self._ask(job, MergeResult)

    async def stop(self) -> None:
        """Ask the training at work to stop between two steps, behind a checkpoint."""
        with contextlib.suppress(ConnectionError):
            await self._send(Order(stop=True))

    async def end(self) -> None:
        """End the process, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _ask(
        self,
        job: TrainJob | EvaluateJob | MergeJob,
        kind: type[Result],
        on_progress: OnProgress = lambda _: None,
        on_checkpoint: OnCheckpoint = lambda _: None,
    ) -> Result:
        with contextlib.suppress(ConnectionError):  # a dead process is noticed below
            await self._send(Order(job=job))
        while line := await self._stdout.readline():
            report = Report.model_validate_json(line)
            if report.progress is not None:
                on_progress(report.progress)
            elif report.checkpoint is not None:
                on_checkpoint(report.checkpoint)
            elif report.failure is not None:
                raise _error_of(report.failure, self._log_file)
            elif isinstance(report.result, kind):
                return report.result
        raise TrainerDied(explain_death(await self._process.wait(), job.kind, self._log_file))

    @property
    def _stdout(self) -> asyncio.StreamReader:
        if self._process.stdout is None:
            raise JobFailed("the training process was started without a pipe to read from")
        return self._process.stdout

    async def _send(self, order: Order) -> None:
        if self._process.stdin is None:
            raise JobFailed("the training process was started without a pipe to write to")
        self._process.stdin.write(order.model_dump_json(by_alias=True).encode() + b"\n")
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def trainer_process(
    log_file: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> AsyncIterator[TrainerProcess]:
    """A training process that lives as long as the block; what it prints is appended to `log_file`.

    `arguments` and `environment` bound what it may take of the machine.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "alignment.jobs",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=_LINE_BYTES,
            env=_PATIENT | os.environ | dict(environment or {}),
        )
    trainer = TrainerProcess(process, log_file)
    try:
        yield trainer
    finally:
        await trainer.end()


def explain_death(returncode: int, kind: str, log_file: Path) -> str:
    """What the exit status of a training process means, and what to do about it."""
    if returncode == -signal.SIGKILL:
        return (
            f"the training process was killed during {kind}, most likely because the machine ran out of memory; "
            "lower pairs_per_step or max_length_tokens, or free memory"
        )
    how = f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
    return f"the training process ended {how} during {kind}; see {log_file.name} in the folder of the run"


def _error_of(failure: Failure, log_file: Path) -> AlignmentError:
    if failure.type == TrainingStopped.__name__:
        return TrainingStopped(failure.message)
    if failure.type in {error.__name__ for error in AlignmentError.__subclasses__()}:
        return AlignmentError(failure.message)
    return JobFailed(f"{failure.message}; see {log_file.name} in the folder of the run")
