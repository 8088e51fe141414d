"""The training process: reads jobs from standard input, a line each, and answers with lines on standard output.

It belongs to the process that started it: when its standard input ends, it ends too, at once, wherever it is.
"""

import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TextIO

from alignment.errors import AlignmentError
from alignment.jobs.contracts import EvaluateJob, Failure, MergeJob, Order, Report, TrainJob

_ORPHANED = 3
_NICENESS = 5


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
    os.nice(_NICENESS)  # the engine that answers people comes first
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    answers = _private_stdout()
    orders = _Orders()
    threading.Thread(target=orders.listen, daemon=True).start()
    while True:
        job = orders.jobs.get()
        _send(answers, _answer(job, orders.stop, lambda report: _send(answers, report)))


def _answer(job: TrainJob | EvaluateJob | MergeJob, stop: threading.Event, send: Callable[[Report], None]) -> Report:
    try:
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
        return Report(failure=Failure(type=type(error).__name__, message=f"{type(error).__name__}: {error}"))


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
