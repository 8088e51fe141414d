"""Let a model answer pinned prompts of our own, greedily, so that loops, empty answers and lost ends come to light."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from alignment.gate.answers import FIGURES, Answer, distinct_share
from alignment.gate.comparison import Sides, compared
from alignment.gate.languages import Language
from alignment.gate.progress import OnProgress, untold
from alignment.models import pad_id
from gateway.contracts.release import Interval

_FOLDER = Path(__file__).parent / "texts"
_PROMPTS_AT_A_TIME = 10


def pinned_prompts(languages: Sequence[Language]) -> list[str]:
    """Our own prompts, one a line, language after language. They stay as they are, so that runs can be compared."""
    files = [_FOLDER / f"prompts_{language}.txt" for language in languages]
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]


@torch.no_grad()
def write_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: frozenset[int],
    most_tokens: int,
    on_progress: OnProgress = untold,
) -> list[Answer]:
    """The most likely token, one after the other, for every prompt (token ids); at most `most_tokens` of them."""
    padding, answers = pad_id(tokenizer), []
    # Nothing softens what the weights say: a penalty in generation_config.json would hide loops.
    config = GenerationConfig(
        do_sample=False, num_beams=1, repetition_penalty=1.0, no_repeat_ngram_size=0, max_new_tokens=most_tokens,
        eos_token_id=sorted(end_ids), pad_token_id=padding,
    )  # fmt: skip
    for start in range(0, len(prompts), _PROMPTS_AT_A_TIME):
        ids, mask = _padded_left(prompts[start : start + _PROMPTS_AT_A_TIME], padding)
        given = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        written = model.generate(**given, generation_config=config)[:, ids.shape[1] :]
        answers += [answer_of(row, end_ids, tokenizer) for row in written.tolist()]
        on_progress(len(ids))
    return answers


def answer_of(written: Sequence[int], end_ids: frozenset[int], tokenizer: Any) -> Answer:
    """What stands before the first end token; what follows it is padding."""
    end = next((place for place, token in enumerate(written) if token in end_ids), None)
    tokens = tuple(written[:end])
    return Answer(tokenizer.decode(tokens, skip_special_tokens=True), tokens, ended=end is not None)


def generation_metrics(prompts: Sequence[str], sides: Sides[Sequence[Answer]]) -> dict[str, Interval | float]:
    """The figures of the answers of each model, and their paired differences."""
    found: dict[str, Interval | float] = {}
    for name, figure in FIGURES.items():
        found |= compared(name, sides.map(partial(_each, figure)), prompts)
    return found | dict(sides.map(distinct_share).named("generation_distinct_share"))


def _each(figure: Callable[[Answer], float], answers: Sequence[Answer]) -> list[float]:
    return [figure(answer) for answer in answers]


def _padded_left(prompts: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (P, W), the prompts at the right edge, and the attention mask (P, W)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), padding)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask
