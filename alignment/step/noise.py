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

    def expect(self, batch: StepBatch, layout: str) -> None:
        """What is embedded next, by `Rung.layout`: runs end to end, with each prompt once or twice, or padded rows."""
        scale = torch.tensor([lengths.total for lengths in batch["lengths"]]).rsqrt()
        if layout != "rows":
            tokens = [
                lengths.total + (lengths.prompt if layout == "sequences" and lengths.rejected else 0)
                for lengths in batch["lengths"]
            ]
            scale = scale.repeat_interleave(torch.tensor(tokens))
        self._scale = scale.to(batch["input_ids"].device).view((-1, 1, 1) if layout == "rows" else (1, -1, 1))

    def _noisy(self, module: Any, arguments: Any, embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        noisy: Tensor = embedded + noise * (self._alpha * embedded.shape[-1] ** -0.5 * self._scale).to(embedded.dtype)
        return noisy
