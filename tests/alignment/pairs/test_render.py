"""Token ids as an engine would see them: the prompt a strict prefix, the end token once, whole turns dropped."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignment.errors import UnfitModel
from alignment.pairs.pair import PreferencePair
from alignment.pairs.render import PairRenderer, TokenPair, shortened_prompts
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


def test_a_template_that_rewrites_history_does_not_move_the_prompt(byte_tokenizer: Any, make_pair: Any) -> None:
    thinking = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    thinking.chat_template = (
        "{{ messages[0]['content'] }}{% if add_generation_prompt %}<think>{% else %}={{ messages[1]['content'] }}"
        "{% endif %}"
    )
    tokens = render(PairRenderer(thinking, [], 100), make_pair("hi", "yes", "no"))
    assert thinking.decode(tokens.prompt) == "hi<think>"
    assert thinking.decode(tokens.chosen) == "yes<|im_end|>"


def test_reasoning_is_left_out_of_both_sides(renderer: PairRenderer, byte_tokenizer: Any) -> None:
    chosen = Message(role="assistant", content="yes", reasoning="let me think")
    pair = PreferencePair("a", (message("user", "hi"),), chosen, message("assistant", "no"))
    assert byte_tokenizer.decode(render(renderer, pair).chosen) == "yes<|im_end|>"


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
