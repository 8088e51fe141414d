"""The forward pass of a step: a batch of pairs in, sums of log-probabilities out, whatever the model can do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available

from alignment.step.attention import attending
from alignment.step.batch import Pair, Single, StepBatch, collate
from alignment.step.head import divergence, finish_of, head_divergence, head_logps
from alignment.step.ladder import Choice, choose, short_windows, trial_batch
from alignment.step.noise import EmbeddingNoise
from alignment.step.padded import padded_logits
from alignment.step.products import linears_of, multiplying
from alignment.step.results import SideLogps, StepLogps
from alignment.step.rungs import PADDED, RUNGS, offered, why_only_padded
from alignment.step.targets import CHOSEN, PROMPT, REJECTED, Targets, summed_by, targets_of


class PairStep:
    """Scores batches under one model; built once for it."""

    def __init__(self, model: Any, pad_id: int, neftune_alpha: float | None = None) -> None:
        """`model`: a causal language model of transformers or a PeftModel around one. `pad_id`: any token will do.

        `neftune_alpha`: noise on the embeddings in training mode, none by default.
        """
        self._pad_id = pad_id
        self._noise = EmbeddingNoise(model, neftune_alpha) if neftune_alpha else None
        self._layers = linears_of(model)
        self._finish = finish_of(_causal(model), _body(model))
        self.rung, self.reason = self._choose(model)
        """How batches are scored, by the name of a rung (`RUNGS`), and why not on a faster one."""

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
        scored = self._summed(self._scores(model, states, targets), targets, batch)
        if base is not None and reference:
            with torch.no_grad():
                scored = scored._replace(reference=self._summed(self._scores(model, base, targets), targets, batch))
        if base is not None and divergence:
            scored = scored._replace(divergence=self._divergence(model, states, base, targets, len(batch["lengths"])))
        return scored

    @contextmanager
    def held(self, model: Any) -> Iterator[None]:
        """Around forward and backward together: gradient checkpointing runs parts of the forward pass again."""
        with self._attending(model, self.rung):
            yield

    def _choose(self, model: Any) -> Choice:
        causal = _causal(model)
        if self._finish is None:
            return Choice(PADDED, "pairs padded: its head is more than a matrix product")
        if (reason := why_only_padded(causal)) is not None:
            return Choice(PADDED, f"pairs padded: {reason}")
        config = causal.config.get_text_config()
        names = offered(model.device.type, causal.dtype, config, is_flash_attn_2_available())
        with short_windows(causal):
            return choose(model, names, partial(self._score, model), trial_batch(config.vocab_size, model.device))

    @contextmanager
    def _attending(self, model: Any, rung: str) -> Iterator[None]:
        config = getattr(_body(model), "config", None) or _causal(model).config
        with attending(config, RUNGS[rung].attention(config)), multiplying(self._layers):
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
        """What predicts the targets: hidden states (N, H), or logits (N, V) of a head that is not understood."""
        if self._noise:
            self._noise.expect(batch, RUNGS[rung].layout)
        with self._attending(model, rung):
            if self._finish is None:
                return padded_logits(_causal(model), batch, targets, self._pad_id)
            return RUNGS[rung].hidden(_body(model), batch, targets, self._pad_id)

    def _score(self, model: Any, rung: str, batch: StepBatch) -> Tensor:
        targets = targets_of(batch, prompt=True)
        return self._scores(model, self._states(model, rung, batch, targets), targets)

    def _scores(self, model: Any, states: Tensor, targets: Targets) -> Tensor:
        """Log-probabilities (N,) of the targets."""
        if self._finish is None:
            return states.log_softmax(1).gather(1, targets.ids[:, None]).squeeze(1)
        return head_logps(states, _causal(model).get_output_embeddings(), self._finish, targets.ids)

    def _divergence(self, model: Any, states: Tensor, base: Tensor, targets: Targets, pairs: int) -> SideLogps:
        """KL to the base, summed over the tokens of both completions of each pair."""
        answers = targets.only_completions()
        own, other = states[answers.rows], base[answers.rows]
        if self._finish is None:
            kl = divergence(own, other)
        else:
            kl = head_divergence(own, other, _causal(model).get_output_embeddings(), self._finish)
        return summed_by(answers.pairs, kl, pairs)


def _body(model: Any) -> Any:
    """The model up to its last hidden state; None where there is no such part."""
    causal = _causal(model)
    return getattr(causal, causal.base_model_prefix, None)


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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
