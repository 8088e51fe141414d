"""One model in memory that is candidate, incumbent or base by switching adapters, not by loading anew."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from alignment.gate.comparison import Sides
from alignment.gate.progress import OnProgress
from alignment.jobs.contracts import EvaluateJob
from alignment.models import load_adapted, load_tokenizer, pad_id, training_device
from alignment.step.pair_step import PairStep

CANDIDATE, INCUMBENT, BASE = "default", "incumbent", "base"
_TOLD_AS = {CANDIDATE: "candidate", INCUMBENT: "incumbent", BASE: "base"}

T = TypeVar("T")
Watch = Callable[[str, int], OnProgress]
"""Told what begins and how many it will be; answers with what to call when some are done."""


class ComparedModels:
    """The three, as a job names them."""

    def __init__(self, job: EvaluateJob, watch: Watch) -> None:
        self.tokenizer = load_tokenizer(job.base_folder)
        self.model = load_adapted(job.base_folder, job.candidate).to(training_device("auto"))
        self.has_base = job.candidate is not None
        self.has_incumbent = self.has_base and job.incumbent is not None
        if self.has_incumbent:
            self.model.load_adapter(str(job.incumbent), INCUMBENT)
        self.pad_id = pad_id(self.tokenizer)
        with torch.no_grad():  # nothing is learnt here, so the step need not try its gradients
            self.step = PairStep(self.model, self.pad_id)
        self._watch = watch

    def each(self, what: str, total: int, measure: Callable[[OnProgress], T]) -> Sides[T]:
        """Measure the same thing under every model."""
        found = {who: self.under(who, what, total, measure) for who in self._names()}
        return Sides(found[CANDIDATE], found.get(BASE), found.get(INCUMBENT))

    def under(self, who: str, what: str, total: int, measure: Callable[[OnProgress], T]) -> T:
        """Measure one thing under one model."""
        with self._as(who):
            return measure(self._watch(f"{what}, {_TOLD_AS[who]}", total))

    def _names(self) -> Iterator[str]:
        yield CANDIDATE
        if self.has_incumbent:
            yield INCUMBENT
        if self.has_base:
            yield BASE

    @contextlib.contextmanager
    def _as(self, who: str) -> Iterator[None]:
        if not self.has_base:
            yield
        elif who == BASE:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter(who)
            yield
