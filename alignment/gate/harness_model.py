"""A model that is loaded already, as lm-evaluation-harness asks for it. Needs lm-eval; see `tasks.py`.

lm-eval's own adapter holds the logits of whole batches of prompts. Here only those of the tokens that are scored exist.
"""

import inspect
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from alignment.gate.progress import OnProgress
from alignment.step.vocabulary import at_least_float32

Request = tuple[tuple[str, str], list[int], list[int]]
"""The texts of prompt and completion, and the token ids of both."""

_WRITTEN_AT_A_TIME = 8


class HarnessModel(HFLM):  # type: ignore[misc]
    """Scores and writes with one model, its adapters switched as they are."""

    def __init__(self, model: Any, tokenizer: Any, on_progress: OnProgress) -> None:
        super().__init__(model, backend="causal", tokenizer=tokenizer, batch_size=_WRITTEN_AT_A_TIME)
        self._on_progress = on_progress

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each prompt, up to a stop."""
        written: list[str] = []
        for start in range(0, len(requests), _WRITTEN_AT_A_TIME):
            part = requests[start : start + _WRITTEN_AT_A_TIME]
            written += super().generate_until(part, disable_tqdm=True)
            self._on_progress(len(part))
        return written

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests: Sequence[Request], *_: Any, **__: Any) -> list[tuple[float, bool]]:
        """Log-probability of each completion, and whether it is the greedy one; requests of one prompt stand together.

        Completions of one token after the same prompt share a forward pass.
        """
        found: list[tuple[float, bool]] = []
        for prompt, group in groupby(requests, key=lambda request: request[1]):
            completions = [completion for _, _, completion in group]
            if all(len(completion) == 1 for completion in completions):
                logps = self._logps(prompt, completions[0])
                found += [_scored(logps, completion) for completion in completions]
            else:
                found += [_scored(self._logps(prompt, completion), completion) for completion in completions]
            self._on_progress(1)
        return found

    def _logps(self, prompt: list[int], completion: list[int]) -> Tensor:
        """(n, V): log-probabilities at the n places that the completion's tokens are predicted from."""
        given = (prompt + completion)[-(self.max_length + 1) :][:-1]
        ids, count = torch.tensor([given], device=self.device), len(completion)
        kept = {"logits_to_keep": count} if _keeps_few(self.model) else {}
        logits = self.model(input_ids=ids, use_cache=False, **kept).logits[0, -count:]
        return at_least_float32(logits).log_softmax(1)


def _scored(logps: Tensor, completion: list[int]) -> tuple[float, bool]:
    ids = torch.tensor(completion, device=logps.device)
    return float(logps.gather(1, ids[:, None]).sum()), bool((logps.argmax(1) == ids).all())


def _keeps_few(model: Any) -> bool:
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(causal.forward).parameters
