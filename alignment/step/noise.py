"""NEFTune: uniform noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914, algorithm 1)."""

from typing import Any

import torch
from torch import Tensor

from alignment.step.batch import StepBatch


class EmbeddingNoise:
    """Adds noise of size alpha / sqrt(L d) to what the embedding layer says, L the tokens of a row, d its width."""

    def __init__(self, model: Any, alpha: float) -> None:
        """Acts on `model` while it is in training mode, for as long as the model lives."""
        self._alpha = alpha
        self._scale = torch.ones(())
        model.get_input_embeddings().register_forward_hook(self._noisy)

    def expect(self, batch: StepBatch, is_flat: bool) -> None:
        """What is embedded next: all rows end to end, or each as a padded row."""
        tokens = torch.tensor([lengths.total for lengths in batch["lengths"]], device=batch["input_ids"].device)
        if is_flat:
            self._scale = tokens.rsqrt().repeat_interleave(tokens)[None, :, None]
        else:
            self._scale = tokens.rsqrt()[:, None, None]

    def _noisy(self, module: Any, arguments: Any, embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        noisy: Tensor = embedded + noise * (self._alpha * embedded.shape[-1] ** -0.5 * self._scale).to(embedded.dtype)
        return noisy
