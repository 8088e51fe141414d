"""From a pair to token ids, exactly as an engine would see and write them. Knows tokenizers, not models.

The prompt's ids are those the engine conditions on: the chat template with its generation prompt. A completion's ids
end with the end token, once; what a template writes after it (a line break, say) is never generated, so not learnt.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alignment.errors import UnfitModel
from alignment.pairs.pair import PreferencePair
from gateway.contracts.message import Message

TOO_LONG = "too_long"
SAME_TOKENS = "same_tokens"


@dataclass(frozen=True, slots=True)
class TokenPair:
    """One pair as token ids."""

    id: str
    prompt_hash: str
    weight: float
    prompt: list[int]
    chosen: list[int]
    """Completion ids, the end token last."""
    rejected: list[int]
    turns_dropped: int = 0
    """Oldest turns left out so that the pair fits."""


class Rendered(NamedTuple):
    """The pairs that can be trained on, and how many could not, by reason."""

    pairs: list[TokenPair]
    dropped: dict[str, int]


class PairRenderer:
    """Renders pairs with one tokenizer and its chat template."""

    def __init__(self, tokenizer: Any, end_ids: Iterable[int], max_length_tokens: int) -> None:
        """`end_ids`: the tokens at which an engine stops. Raises `UnfitModel` without a template or an end token."""
        if not getattr(tokenizer, "chat_template", None):
            raise UnfitModel("the tokenizer has no chat template; take an instruct model, or add chat_template.jinja")
        if tokenizer.eos_token_id is None:
            raise UnfitModel("the tokenizer names no end-of-text token; set eos_token in tokenizer_config.json")
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids) | {tokenizer.eos_token_id}
        self._max_length_tokens = max_length_tokens

    def render_all(self, pairs: Iterable[PreferencePair]) -> Rendered:
        """Every pair that fits; the others are counted under `too_long` or `same_tokens`."""
        rendered: list[TokenPair] = []
        dropped: Counter[str] = Counter()
        for pair in pairs:
            result = self.render(pair)
            if isinstance(result, str):
                dropped[result] += 1
            else:
                rendered.append(result)
        return Rendered(rendered, dict(dropped))

    def render(self, pair: PreferencePair) -> TokenPair | str:
        """The pair's token ids, its oldest turns dropped until it fits; or the reason why it cannot be used."""
        for turns_dropped, prompt in enumerate(shortened_prompts(pair.prompt)):
            prompt_text = self._template(prompt, pair.tools, generation_prompt=True)
            prompt_ids = self._encode(prompt_text)
            chosen, rejected = (
                self._completion_ids(prompt, prompt_text, prompt_ids, side, pair.tools)
                for side in (pair.chosen, pair.rejected)
            )
            if chosen == rejected:
                return SAME_TOKENS
            if len(prompt_ids) + max(len(chosen), len(rejected)) <= self._max_length_tokens:
                weight = pair.weight
                return TokenPair(pair.id, pair.prompt_hash, weight, prompt_ids, chosen, rejected, turns_dropped)
        return TOO_LONG

    def prompt_ids(self, prompt: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The ids an engine conditions on when it answers `prompt`."""
        return self._encode(self._template(prompt, tools, generation_prompt=True))

    def _completion_ids(
        self, prompt: Sequence[Message], prompt_text: str, prompt_ids: list[int], side: Message, tools: Any
    ) -> list[int]:
        full_text = self._template((*prompt, side), tools, generation_prompt=False)
        if not full_text.startswith(prompt_text):
            # Some templates rewrite history once it has an answer; the engine saw the prompt as it was before.
            full_text = prompt_text + side.text
        full_ids = self._encode(full_text)
        if full_ids[: len(prompt_ids)] == prompt_ids:
            return self._ended(full_ids[len(prompt_ids) :])
        # The tokenizer merged across the boundary. The engine could not: it reads the prompt's ids and writes its own.
        return self._ended(self._encode(full_text[len(prompt_text) :]))

    def _ended(self, ids: list[int]) -> list[int]:
        for index, token in enumerate(ids):
            if token in self._end_ids:
                return ids[: index + 1]
        return [*ids, self._tokenizer.eos_token_id]

    def _template(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], generation_prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [message.template_dict() for message in messages],
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
            )
        )

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def shortened_prompts(prompt: Sequence[Message]) -> Iterable[tuple[Message, ...]]:
    """The prompt itself, then without its oldest turn, and so on; system messages and the last user turn stay."""
    head = 0
    while head < len(prompt) and prompt[head].role in ("system", "developer"):
        head += 1
    yield tuple(prompt)
    for index in range(head + 1, len(prompt)):
        if prompt[index].role == "user":
            yield (*prompt[:head], *prompt[index:])


def end_token_ids(model_folder: Path) -> set[int]:
    """The ids at which engines stop, from `generation_config.json`; empty if the file names none."""
    path = model_folder / "generation_config.json"
    if not path.is_file():
        return set()
    given = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    if given is None:
        return set()
    return {int(given)} if isinstance(given, int) else {int(item) for item in given}
