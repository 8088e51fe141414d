"""The training process: reads jobs from standard input, a line each, and answers with lines on standard output.

It belongs to the process that started it: when its standard input ends, it ends too, at once, wherever it is.
"""

import argparse
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TextIO

from alignment.errors import AlignmentError, OutOfMemory
from alignment.jobs.contracts import EvaluateJob, Failure, MergeJob, Order, Report, TrainJob
from alignment.jobs.limits import limit_accelerator, limit_memory, step_back
from alignment.left_out import left_out
from alignment.training.exhaustion import is_out_of_memory

_ORPHANED = 3


class _Orders:
    """Jobs in their order, and whether the one at work should stop."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[TrainJob | EvaluateJob | MergeJob] = queue.Queue()
        self.stop = threading.Event()

    def listen(self) -> None:
        """Read orders until nobody is there to give any."""
        for line in sys.stdin:
            order = Order.model_validate_json(line)
            if order.stop:
                self.stop.set()
            if order.job is not None:
                self.stop.clear()
                self.jobs.put(order.job)
        os._exit(_ORPHANED)


def main() -> None:
    """Serve until standard input ends."""
    arguments = _parser().parse_args()
    step_back()
    if arguments.memory_bytes is not None:
        limit_memory(arguments.memory_bytes)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    answers = _private_stdout()
    orders = _Orders()
    threading.Thread(target=orders.listen, daemon=True).start()
    while True:
        job = orders.jobs.get()
        if arguments.accelerator_share is not None:
            limit_accelerator(arguments.accelerator_share)
        _send(answers, _answer(job, orders.stop, lambda report: _send(answers, report)))


def _answer(job: TrainJob | EvaluateJob | MergeJob, stop: threading.Event, send: Callable[[Report], None]) -> Report:
    try:
        with left_out():
            from alignment.jobs import evaluation, training, work  # heavy, so not before there is work
            from alignment.training.watch import Watching

        if isinstance(job, TrainJob):
            watching = Watching(
                lambda metrics: send(Report(progress=metrics)),
                stop.is_set,
                on_checkpoint=lambda step: send(Report(checkpoint=step)),
            )
            return Report(result=training.train(job, watching))
        return Report(result=evaluation.evaluate(job) if isinstance(job, EvaluateJob) else work.merge(job))
    except AlignmentError as error:
        return Report(failure=Failure(type=type(error).__name__, message=error.message))
    except Exception as error:  # whatever it is, the one who asked must learn of it
        traceback.print_exc()
        if is_out_of_memory(error):
            told = f"memory ran out ({error}); free some, train a smaller model, or give it another device"
            return Report(failure=Failure(type=OutOfMemory.__name__, message=told))
        return Report(failure=Failure(type=type(error).__name__, message=f"{type(error).__name__}: {error}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignment.jobs", description=__doc__)
    parser.add_argument("--memory-bytes", type=int, help="have no more memory of the machine than this")
    parser.add_argument("--accelerator-share", type=float, help="and no more of the accelerator's, 0 to 1")
    return parser


def _send(answers: TextIO, report: Report) -> None:
    answers.write(report.model_dump_json() + "\n")
    answers.flush()


def _private_stdout() -> TextIO:
    """Standard output for our lines alone; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
