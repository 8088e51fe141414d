"""The forward pass of a step: a batch of pairs in, sums of log-probabilities out, whatever the model can do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import Pair, Single, StepBatch, collate, to_device
from alignment.step.flat import flat_hidden, in_segments
from alignment.step.ladder import why_not
from alignment.step.noise import EmbeddingNoise
from alignment.step.padded import padded_hidden, padded_logits
from alignment.step.results import SideLogps, StepLogps
from alignment.step.targets import CHOSEN, PROMPT, REJECTED, Targets, summed_by, targets_of
from alignment.step.vocabulary import token_divergence, token_logps

_LONGEST_TRIAL = 512
# Models that do more than a matrix product after the last hidden state name it with one of these settings.
_HEAD_EXTRAS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
_FLAT = "pairs end to end, each prompt once: a trial pair came out as it does padded"


class PairStep:
    """Scores batches under one model; built once for it."""

    def __init__(self, model: Any, pad_id: int, neftune_alpha: float | None = None) -> None:
        """`model`: a causal language model of transformers or a PeftModel around one. `pad_id`: any token will do.

        `neftune_alpha`: noise on the embeddings in training mode, none by default.
        """
        self._pad_id = pad_id
        self._noise = EmbeddingNoise(model, neftune_alpha) if neftune_alpha else None
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

    def logps(
        self, model: Any, batch: StepBatch, *, prompt: bool = False, reference: bool = False, divergence: bool = False
    ) -> StepLogps:
        """Score both completions of every pair, and the prompts if `prompt`.

        `reference`: also without the adapter. `divergence`: also KL to the model without it, at every completion token.
        """
        targets = targets_of(batch, prompt)
        base = self._base_states(model, batch, targets) if reference or divergence else None
        states = self._states(model, self.rung, batch, targets)
        scored = self._summed(_scores(model, states, targets), targets, batch)
        if base is not None and reference:
            with torch.no_grad():
                scored = scored._replace(reference=self._summed(_scores(model, base, targets), targets, batch))
        if base is not None and divergence:
            scored = scored._replace(divergence=_divergence(model, states, base, targets, len(batch["lengths"])))
        return scored

    @contextmanager
    def held(self, model: Any) -> Iterator[None]:
        """Around forward and backward together: gradient checkpointing runs parts of the forward pass again."""
        with in_segments(_body(model).config) if self.rung == "segments" else nullcontext():
            yield

    def _summed(self, scores: Tensor, targets: Targets, batch: StepBatch) -> StepLogps:
        chosen, rejected, prompt = (
            targets.side(scores, part, len(batch["lengths"])) for part in (CHOSEN, REJECTED, PROMPT)
        )
        return StepLogps(chosen, rejected, prompt if targets.with_prompt else None, desirable=batch["desirable"])

    @torch.no_grad()
    def _base_states(self, model: Any, batch: StepBatch, targets: Targets) -> Tensor:
        with _without_adapter(model):
            return self._states(model, self.rung, batch, targets)

    def _states(self, model: Any, rung: str, batch: StepBatch, targets: Targets) -> Tensor:
        """What predicts the targets: hidden states (N, H), or logits (N, V) of a head that is no matrix product."""
        causal = _causal(model)
        if self._noise:
            self._noise.expect(batch, is_flat=rung == "segments")
        if _has_head_extras(causal):
            return padded_logits(causal, batch, targets, self._pad_id)
        if rung == "segments":
            return flat_hidden(_body(model), batch, targets)
        return padded_hidden(_body(model), batch, targets, self._pad_id)

    def _score(self, model: Any, rung: str, batch: StepBatch) -> Tensor:
        targets = targets_of(batch, prompt=True)
        return _scores(model, self._states(model, rung, batch, targets), targets)


def _scores(model: Any, states: Tensor, targets: Targets) -> Tensor:
    """Log-probabilities (N,) of the targets."""
    causal = _causal(model)
    if _has_head_extras(causal):
        return states.log_softmax(1).gather(1, targets.ids[:, None]).squeeze(1)
    return token_logps(states, causal.get_output_embeddings(), targets.ids)


def _divergence(model: Any, states: Tensor, base: Tensor, targets: Targets, pairs: int) -> SideLogps:
    """KL to the base, summed over the tokens of both completions of each pair."""
    causal = _causal(model)
    answers = targets.only_completions()
    own, other = states[answers.rows], base[answers.rows]
    if _has_head_extras(causal):
        p, q = own.log_softmax(1), other.log_softmax(1)
        kl = (p.exp() * (p - q)).sum(1)
    else:
        kl = token_divergence(own, other, causal.get_output_embeddings())
    return summed_by(answers.pairs, kl, pairs)


def _body(model: Any) -> Any:
    causal = _causal(model)
    return getattr(causal, causal.base_model_prefix)


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
    chosen_unscored: int = 0
    rejected_unscored: int = 0


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
