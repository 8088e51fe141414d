"""Token ids as an engine would see them: the prompt a strict prefix, the end token once, whole turns dropped."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignment.errors import UnfitModel
from alignment.pairs.pair import Answer, PreferencePair
from alignment.pairs.render import PairRenderer, shortened_prompts
from alignment.pairs.tokens import TokenAnswer, TokenPair
from gateway.contracts.message import Message

END_ID = 1


@pytest.fixture
def renderer(byte_tokenizer: Any) -> PairRenderer:
    return PairRenderer(byte_tokenizer, [], max_length_tokens=512)


def render(renderer: PairRenderer, pair: PreferencePair) -> TokenPair:
    rendered = renderer.render(pair)
    assert isinstance(rendered, TokenPair)
    return rendered


def message(role: Any, content: str) -> Message:
    return Message(role=role, content=content)


def test_the_prompt_ends_where_the_engine_begins_to_write(
    renderer: PairRenderer, byte_tokenizer: Any, make_pair: Any
) -> None:
    tokens = render(renderer, make_pair("hi", "yes", "no"))
    assert byte_tokenizer.decode(tokens.prompt) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert byte_tokenizer.decode(tokens.chosen) == "yes<|im_end|>"
    assert byte_tokenizer.decode(tokens.rejected) == "no<|im_end|>"


def test_the_end_token_stands_once_and_nothing_after_it(renderer: PairRenderer, make_pair: Any) -> None:
    tokens = render(renderer, make_pair("hi", "yes", "no<|im_end|>\nmore"))
    for completion in (tokens.chosen, tokens.rejected):
        assert completion.count(END_ID) == 1
        assert completion[-1] == END_ID


def test_an_end_token_is_added_where_the_template_writes_none(byte_tokenizer: Any, make_pair: Any) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    bare.chat_template = "{% for message in messages %}{{ message['content'] }}>{% endfor %}"
    tokens = render(PairRenderer(bare, [], 100), make_pair("hi", "yes", "no"))
    assert bare.decode(tokens.chosen) == "yes><|im_end|>"


def test_an_engines_other_end_tokens_end_a_completion_too(byte_tokenizer: Any, make_pair: Any) -> None:
    line_break = byte_tokenizer("\n")["input_ids"][0]
    tokens = render(PairRenderer(byte_tokenizer, [line_break], 100), make_pair("hi", "yes\nand more", "no"))
    assert byte_tokenizer.decode(tokens.chosen) == "yes\n"


def test_a_merge_across_the_boundary_leaves_the_prompt_as_the_engine_reads_it(make_pair: Any) -> None:
    # `:` and `y` would merge into one token; the engine read `:` alone and then wrote `y`.
    vocabulary = {letter: index for index, letter in enumerate(["|", "h", "i", ":", "y", "n", ":y"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "y")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("|", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="|")
    fast.chat_template = (
        "{{ messages[0]['content'] }}:{% for message in messages[1:] %}{{ message['content'] }}|{% endfor %}"
    )
    tokens = render(PairRenderer(fast, [], 100), make_pair("hi", "y", "n"))
    assert fast.convert_ids_to_tokens(tokens.prompt) == ["h", "i", ":"]
    assert fast.convert_ids_to_tokens(tokens.chosen) == ["y", "|"]
    assert fast.convert_ids_to_tokens(tokens.rejected) == ["n", "|"]


def with_template(byte_tokenizer: Any, template: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    return tokenizer


def thoughtful_pair(chosen: str | None, rejected: str | None) -> PreferencePair:
    """Answers `yes` and `no` after these thoughts."""
    sides = [
        Message(role="assistant", content=answer, reasoning=thought)
        for answer, thought in (("yes", chosen), ("no", rejected))
    ]
    return PreferencePair("a", (message("user", "hi"),), *sides)


def decoded(tokenizer: Any, tokens: TokenPair) -> tuple[str, str, str, str]:
    """The prompt; what is scored of the chosen side; what of it is only seen; and what is scored of the rejected."""
    seen, scored = tokens.chosen[: tokens.chosen_unscored], tokens.chosen[tokens.chosen_unscored :]
    rejected = tokens.rejected[tokens.rejected_unscored :]
    return tuple(tokenizer.decode(ids) for ids in (tokens.prompt, scored, seen, rejected))  # type: ignore[return-value]


def test_a_template_that_rewrites_history_does_not_move_the_prompt(byte_tokenizer: Any, make_pair: Any) -> None:
    numbered = with_template(
        byte_tokenizer,
        "{{ messages[0]['content'] }}"
        "{% if add_generation_prompt %}#1:{% else %}={{ messages[1]['content'] }}{% endif %}",
    )
    tokens = render(PairRenderer(numbered, [], 100), make_pair("hi", "yes", "no"))
    assert numbered.decode(tokens.prompt) == "hi#1:"
    assert numbered.decode(tokens.chosen) == "yes<|im_end|>"


SWITCH = (
    "{% for message in messages %}[{{ message['role'] }}]{% if loop.last and message['role'] == 'assistant' %}<think>"
    "{{ message['reasoning_content'] or '' }}</think>{% endif %}{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)
ALWAYS = (
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)


def test_thoughts_on_both_sides_are_seen_by_their_answers_and_not_scored(byte_tokenizer: Any) -> None:
    tokenizer = with_template(byte_tokenizer, SWITCH)
    tokens = render(PairRenderer(tokenizer, [], 200), thoughtful_pair("why not", "why"))
    assert decoded(tokenizer, tokens) == (
        "[user]hi<|im_end|>[assistant]", "yes<|im_end|>", "<think>why not</think>", "no<|im_end|>"
    )  # fmt: skip


@pytest.mark.parametrize("thoughts", [("why not", None), (None, "why"), (None, None)])
def test_sides_that_differ_in_thinking_are_rendered_without_it(byte_tokenizer: Any, thoughts: Any) -> None:
    tokenizer = with_template(byte_tokenizer, SWITCH)
    tokens = render(PairRenderer(tokenizer, [], 200), thoughtful_pair(*thoughts))
    assert decoded(tokenizer, tokens) == (
        "[user]hi<|im_end|>[assistant]<think></think>", "yes<|im_end|>", "", "no<|im_end|>"
    )  # fmt: skip


def test_a_model_that_always_thinks_keeps_thoughts_or_closes_them_at_once(byte_tokenizer: Any) -> None:
    tokenizer = with_template(byte_tokenizer, ALWAYS)
    renderer = PairRenderer(tokenizer, [], 200)
    prompt = "[user]hi<|im_end|>[assistant]<think>\n"
    both, neither = render(renderer, thoughtful_pair("a", "b")), render(renderer, thoughtful_pair(None, None))
    assert decoded(tokenizer, both) == (prompt, "yes<|im_end|>", "a\n</think>\n\n", "no<|im_end|>")
    assert decoded(tokenizer, neither) == (prompt, "yes<|im_end|>", "\n</think>\n\n", "no<|im_end|>")


def test_sides_that_differ_in_thinking_are_counted_where_the_model_always_thinks(byte_tokenizer: Any) -> None:
    renderer = PairRenderer(with_template(byte_tokenizer, ALWAYS), [], 200)
    rendered = renderer.render_all([thoughtful_pair("a", None), thoughtful_pair(None, "b"), thoughtful_pair("a", "b")])
    assert (len(rendered.pairs), rendered.dropped) == (1, {"thinking_mismatch": 2})


def test_reasoning_is_left_out_where_the_template_knows_none(renderer: PairRenderer, byte_tokenizer: Any) -> None:
    tokens = render(renderer, thoughtful_pair("let me think", None))
    assert byte_tokenizer.decode(tokens.chosen) == "yes<|im_end|>"
    assert tokens.chosen_unscored == 0


TOOLS = (
    "{% if tools %}tools:{% for tool in tools %}{{ tool['function']['name'] }} {% endfor %}{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "<{{ call['function']['name'] }} {{ call['function']['arguments']['city'] }}>{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_tools_are_declared_in_the_prompt_and_called_in_the_answer(byte_tokenizer: Any) -> None:
    tokenizer = with_template(byte_tokenizer, TOOLS)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    pair = PreferencePair(
        "a",
        (message("user", "hi"),),
        Message(role="assistant", tool_calls=(call,)),
        message("assistant", "no"),
        tools=({"type": "function", "function": {"name": "weather"}},),
    )
    tokens = render(PairRenderer(tokenizer, [], 200), pair)
    assert tokenizer.decode(tokens.prompt) == "tools:weather [user]hi<|im_end|>[assistant]"
    assert tokenizer.decode(tokens.chosen) == "<weather Bern><|im_end|>"


def test_calls_that_the_template_would_lose_are_counted(byte_tokenizer: Any) -> None:
    numbered = with_template(byte_tokenizer, "{{ messages|length }}{% if add_generation_prompt %}:{% endif %}")
    pair = PreferencePair(
        "a", (message("user", "hi"),), Message(role="assistant", tool_calls=({"id": "c"},)), message("assistant", "no")
    )
    assert PairRenderer(numbered, [], 200).render(pair) == "tool_calls_not_shown"


def test_chinese_is_rendered_letter_for_letter(renderer: PairRenderer, byte_tokenizer: Any, make_pair: Any) -> None:
    tokens = render(renderer, make_pair("天空为什么是蓝色的？", "因为蓝光散射最多。", "不知道。"))
    assert byte_tokenizer.decode(tokens.prompt) == (
        "<|im_start|>user\n天空为什么是蓝色的？<|im_end|>\n<|im_start|>assistant\n"
    )
    assert byte_tokenizer.decode(tokens.chosen) == "因为蓝光散射最多。<|im_end|>"


def test_a_single_answer_is_rendered_as_a_side_of_a_pair_is(
    renderer: PairRenderer, byte_tokenizer: Any, make_pair: Any
) -> None:
    pair = make_pair("hi", "yes", "no", weight=0.5)
    tokens = renderer.render_answer(Answer("b", pair.prompt, pair.rejected, is_desirable=False, weight=0.5))
    assert isinstance(tokens, TokenAnswer)
    assert (tokens.prompt, tokens.completion) == (render(renderer, pair).prompt, render(renderer, pair).rejected)
    assert (tokens.desirable, tokens.weight, tokens.prompt_hash) == (False, 0.5, pair.prompt_hash)
    assert renderer.render_answers([Answer("c", (message("user", "x" * 999),), pair.chosen, True)]).dropped == {
        "too_long": 1
    }


LONG = [
    message("system", "be kind"),
    message("user", "first question"),
    message("assistant", "first answer"),
    message("user", "second question"),
    message("assistant", "second answer"),
    message("user", "last question"),
]


def test_too_long_pairs_lose_whole_oldest_turns(byte_tokenizer: Any) -> None:
    pair = PreferencePair("a", tuple(LONG), message("assistant", "yes"), message("assistant", "no"))
    whole = render(PairRenderer(byte_tokenizer, [], 1000), pair)
    tokens = render(PairRenderer(byte_tokenizer, [], len(whole.prompt)), pair)
    assert tokens.turns_dropped == 1
    assert byte_tokenizer.decode(tokens.prompt) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nsecond question<|im_end|>\n"
        "<|im_start|>assistant\nsecond answer<|im_end|>\n<|im_start|>user\nlast question<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokens.chosen == whole.chosen


def test_system_message_and_last_user_turn_stay() -> None:
    kept = [[item.text for item in prompt] for prompt in shortened_prompts(LONG)]
    assert kept == [
        [item.text for item in LONG],
        ["be kind", "second question", "second answer", "last question"],
        ["be kind", "last question"],
    ]


def test_what_cannot_fit_or_says_nothing_is_counted_by_reason(byte_tokenizer: Any, make_pair: Any) -> None:
    pairs = [make_pair("hi", "yes", "no"), make_pair("x" * 99, "yes", "no"), make_pair("ho", "yes", "yes<|im_end|>a")]
    rendered = PairRenderer(byte_tokenizer, [], 60).render_all(pairs)
    assert [tokens.id for tokens in rendered.pairs] == ["pair-hi"]
    assert rendered.dropped == {"too_long": 1, "same_tokens": 1}


def test_a_pair_that_just_fits_is_kept(byte_tokenizer: Any, make_pair: Any) -> None:
    tokens = render(PairRenderer(byte_tokenizer, [], 100), make_pair("hi", "yes", "no"))
    length = len(tokens.prompt) + len(tokens.chosen)
    assert PairRenderer(byte_tokenizer, [], length).render(make_pair("hi", "yes", "no")) == tokens
    assert PairRenderer(byte_tokenizer, [], length - 1).render(make_pair("hi", "yes", "no")) == "too_long"


def test_a_model_without_a_chat_template_is_refused(byte_tokenizer: Any) -> None:
    with pytest.raises(UnfitModel, match="no chat template"):
        PairRenderer(PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer.backend_tokenizer), [], 100)
