"""The forward pass of a step: a batch of pairs in, sums of log-probabilities out, whatever the model can do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import Pair, Single, StepBatch, collate, to_device
from alignment.step.flat import flat_hidden
from alignment.step.ladder import why_not
from alignment.step.padded import padded_hidden, padded_logps
from alignment.step.results import StepLogps
from alignment.step.targets import CHOSEN, PROMPT, REJECTED, Targets, targets_of
from alignment.step.vocabulary import token_logps

_LONGEST_TRIAL = 512
# Models that do more than a matrix product after the last hidden state name it with one of these settings.
_HEAD_EXTRAS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
_FLAT = "pairs end to end, each prompt once: a trial pair came out as it does padded"


class PairStep:
    """Scores batches under one model; built once for it."""

    def __init__(self, model: Any, pad_id: int) -> None:
        """`model`: a causal language model of transformers or a PeftModel around one. `pad_id`: any token will do."""
        self._pad_id = pad_id
        self.rung, self.reason = "padded", "pairs padded: its head is more than a matrix product"
        """How batches are scored, `segments` or `padded`, and why."""
        if not _has_head_extras(_causal(model)):
            reason = why_not(model, partial(self._score, model, "segments"), partial(self._score, model, "padded"),
                             _trial(model))  # fmt: skip
            self.rung = "segments" if reason is None else "padded"
            self.reason = _FLAT if reason is None else f"pairs padded: {reason}"

    def collate(self, rows: Sequence[Pair | Single]) -> StepBatch:
        """One batch, on the CPU."""
        return collate(rows)

    def logps(self, model: Any, batch: StepBatch, *, prompt: bool = False, reference: bool = False) -> StepLogps:
        """Score both completions of every pair, and the prompts if asked; `reference`: also without the adapter."""
        targets = targets_of(batch, prompt)
        scored = self._sums(self._scores(model, batch, targets), targets, batch, prompt)
        return scored._replace(reference=self.reference(model, batch, prompt=prompt)) if reference else scored

    @torch.no_grad()
    def reference(self, model: Any, batch: StepBatch, *, prompt: bool = False) -> StepLogps:
        """Score under the model without its adapter, in evaluation mode."""
        targets = targets_of(batch, prompt)
        with _without_adapter(model):
            return self._sums(self._scores(model, batch, targets), targets, batch, prompt)

    def _sums(self, scores: Tensor, targets: Targets, batch: StepBatch, prompt: bool) -> StepLogps:
        pairs = len(batch["lengths"])
        chosen, rejected = (targets.side(scores, part, pairs) for part in (CHOSEN, REJECTED))
        return StepLogps(chosen, rejected, targets.side(scores, PROMPT, pairs) if prompt else None)

    def _scores(self, model: Any, batch: StepBatch, targets: Targets) -> Tensor:
        return self._targets_scored(model, self.rung, batch, targets)

    def _score(self, model: Any, rung: str, batch: StepBatch) -> Tensor:
        return self._targets_scored(model, rung, batch, targets_of(batch, prompt=True))

    def _targets_scored(self, model: Any, rung: str, batch: StepBatch, targets: Targets) -> Tensor:
        causal = _causal(model)
        if _has_head_extras(causal):
            return padded_logps(causal, batch, targets, self._pad_id)
        body, head = getattr(causal, causal.base_model_prefix), causal.get_output_embeddings()
        if rung == "segments":
            hidden = flat_hidden(body, batch, targets)
        else:
            hidden = padded_hidden(body, batch, targets, self._pad_id)
        return token_logps(hidden, head, targets.ids)


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _has_head_extras(causal: Any) -> bool:
    return any(getattr(causal.config, name, None) for name in _HEAD_EXTRAS)


def _trial(model: Any) -> StepBatch:
    """Two pairs of arbitrary tokens, longer than the model's window if it has a short one."""
    config = _causal(model).config
    window = getattr(config, "sliding_window", None) or 0
    size = 24 if window > _LONGEST_TRIAL else window + 24
    tokens = torch.randint(config.vocab_size, (4 * size,), generator=torch.Generator().manual_seed(0)).tolist()
    first = TrialPair(tokens[:size], tokens[size : size + 9], tokens[2 * size : 2 * size + 13])
    second = TrialPair(tokens[3 * size : 3 * size + 5], tokens[-7:], tokens[-12:-8])
    return to_device(collate([first, second]), model.device)


class TrialPair(NamedTuple):
    """A pair for the check."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    weight: float = 1.0


@contextmanager
def _without_adapter(model: Any) -> Iterator[None]:
    """The base model alone and without dropout, then everything as it was."""
    was_training = model.training
    model.eval()
    try:
        if hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                yield
        else:
            yield
    finally:
        model.train(was_training)
