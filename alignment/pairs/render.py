"""From pairs and answers to token ids, exactly as an engine would see and write them. Knows tokenizers, not models.

The prompt's ids are those the engine conditions on: the chat template with its generation prompt. A completion's ids
end with the end token, once; what a template writes after it (a line break, say) is never generated, so not learnt.
A thought stands before an answer only where every side has one, and no loss covers it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alignment.errors import UnfitModel
from alignment.pairs.pair import Answer, PreferencePair
from alignment.pairs.template import ChatTemplate, Completion, Tools, opens_thought
from alignment.pairs.tokens import TokenAnswer, TokenPair
from gateway.contracts.message import Message

TOO_LONG = "too_long"
SAME_TOKENS = "same_tokens"
THINKING_MISMATCH = "thinking_mismatch"
NOT_SHOWN = "tool_calls_not_shown"
"""The chat template writes history anew once it has an answer, and leaves the answer's tool calls out."""

_Row = TypeVar("_Row", PreferencePair, Answer)
_Tokens = TypeVar("_Tokens", TokenPair, TokenAnswer)


class Rendered(NamedTuple):
    """The pairs that can be trained on, and how many could not, by reason."""

    pairs: list[TokenPair]
    dropped: dict[str, int]


class RenderedAnswers(NamedTuple):
    """The answers that can be trained on, and how many could not, by reason."""

    answers: list[TokenAnswer]
    dropped: dict[str, int]


class _Side(NamedTuple):
    ids: list[int]
    unscored: int


class _Fitted(NamedTuple):
    prompt: list[int]
    sides: list[_Side]
    turns_dropped: int


class PairRenderer:
    """Renders pairs with one tokenizer and its chat template."""

    def __init__(self, tokenizer: Any, end_ids: Iterable[int], max_length_tokens: int) -> None:
        """`end_ids`: the tokens at which an engine stops. Raises `UnfitModel` without a template or an end token."""
        if not getattr(tokenizer, "chat_template", None):
            raise UnfitModel("the tokenizer has no chat template; take an instruct model, or add chat_template.jinja")
        if tokenizer.eos_token_id is None:
            raise UnfitModel("the tokenizer names no end-of-text token; set eos_token in tokenizer_config.json")
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self._end_ids = frozenset(end_ids) | {tokenizer.eos_token_id}
        self._max_length_tokens = max_length_tokens

    def render_all(self, pairs: Iterable[PreferencePair]) -> Rendered:
        """Every pair that fits; the others are counted by the reasons above."""
        return Rendered(*_sorted_out(pairs, self.render))

    def render_answers(self, answers: Iterable[Answer]) -> RenderedAnswers:
        """Every answer that fits; the others are counted by the reasons above."""
        return RenderedAnswers(*_sorted_out(answers, self.render_answer))

    def render(self, pair: PreferencePair) -> TokenPair | str:
        """The pair's token ids, its oldest turns dropped until it fits; or the reason why it cannot be used."""
        fitted = self._fitted(pair.prompt, (pair.chosen, pair.rejected), pair.tools)
        if isinstance(fitted, str):
            return fitted
        chosen, rejected = fitted.sides
        return TokenPair(
            pair.id, pair.prompt_hash, pair.weight, fitted.prompt, chosen.ids, rejected.ids, fitted.turns_dropped,
            chosen.unscored, rejected.unscored,
        )  # fmt: skip

    def render_answer(self, answer: Answer) -> TokenAnswer | str:
        """The answer's token ids, likewise."""
        fitted = self._fitted(answer.prompt, (answer.completion,), answer.tools)
        if isinstance(fitted, str):
            return fitted
        (side,) = fitted.sides
        return TokenAnswer(
            answer.id, answer.prompt_hash, answer.weight, fitted.prompt, side.ids, answer.is_desirable,
            fitted.turns_dropped, side.unscored,
        )  # fmt: skip

    def prompt_ids(self, prompt: Sequence[Message], tools: Tools = ()) -> list[int]:
        """The ids an engine conditions on when it answers `prompt` without a thought."""
        return self._encode(self._template.prompt(prompt, tools, thinking=False))

    def _fitted(self, whole: Sequence[Message], sides: Sequence[Message], tools: Tools) -> _Fitted | str:
        thinking = all(side.reasoning for side in sides)
        for turns_dropped, prompt in enumerate(shortened_prompts(whole)):
            text = self._template.prompt(prompt, tools, thinking)
            if opens_thought(text) and not thinking and any(side.reasoning for side in sides):
                return THINKING_MISMATCH
            prompt_ids = self._encode(text)
            written = [self._template.completion(prompt, side, tools, thinking, text) for side in sides]
            rendered = [self._side(text, prompt_ids, one) for one in written if one is not None]
            if len(rendered) < len(sides):
                return NOT_SHOWN
            if len(sides) > 1 and rendered[0].ids == rendered[1].ids:
                return SAME_TOKENS
            if len(prompt_ids) + max(len(side.ids) for side in rendered) <= self._max_length_tokens:
                return _Fitted(prompt_ids, rendered, turns_dropped)
        return TOO_LONG

    def _side(self, prompt: str, prompt_ids: list[int], written: Completion) -> _Side:
        if written.thought:
            thought = self._encode(written.thought)
            return _Side([*thought, *self._ended(self._encode(written.answer))], len(thought))
        ids = self._encode(prompt + written.answer)
        if ids[: len(prompt_ids)] == prompt_ids:
            return _Side(self._ended(ids[len(prompt_ids) :]), 0)
        # The tokenizer merged across the boundary. The engine could not: it reads the prompt's ids and writes its own.
        return _Side(self._ended(self._encode(written.answer)), 0)

    def _ended(self, ids: list[int]) -> list[int]:
        for index, token in enumerate(ids):
            if token in self._end_ids:
                return ids[: index + 1]
        return [*ids, self._tokenizer.eos_token_id]

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


def _sorted_out(rows: Iterable[_Row], render: Callable[[_Row], _Tokens | str]) -> tuple[list[_Tokens], dict[str, int]]:
    rendered: list[_Tokens] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        result = render(row)
        if isinstance(result, str):
            dropped[result] += 1
        else:
            rendered.append(result)
    return rendered, dict(dropped)
