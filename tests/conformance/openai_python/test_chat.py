"""Whole chat completions through the openai SDK, over the real vLLM."""

import math
import time
from typing import Any

import pytest
from openai import OpenAI

from tests.conformance.openai_python.conftest import QUESTION, Asking


def test_a_reply_is_signed_and_counted(ask: Asking) -> None:
    before = int(time.time())
    reply = ask.whole()
    assert reply.id.startswith("chatcmpl-")
    assert before - 1 <= reply.created <= time.time() + 1
    assert reply.system_fingerprint
    assert [choice.index for choice in reply.choices] == [0]
    assert reply.choices[0].message.content
    usage = reply.usage
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert ask.whole().id != reply.id


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_cut_at_the_tokens_asked_for(ask: Asking, field: str) -> None:
    reply = ask.whole(**({"max_tokens": ...} | {field: 5}))
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


def test_a_reply_that_ends_by_itself_says_stop(ask: Asking) -> None:
    reply = ask.whole(messages="hi", max_tokens=200)
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("as_list", [False, True])
def test_a_reply_ends_before_a_stop(ask: Asking, as_list: bool) -> None:
    text = ask.whole(max_tokens=16).choices[0].message.content or ""
    stop = text[len(text) // 2 :][:4]
    choice = ask.whole(max_tokens=16, stop=["\u2603 never said", stop] if as_list else stop).choices[0]
    assert choice.message.content == text[: text.index(stop)]
    assert choice.finish_reason == "stop"


def test_n_choices_are_numbered_and_equal_when_greedy(ask: Asking) -> None:
    one = ask.whole()
    reply = ask.whole(n=3)
    assert sorted(choice.index for choice in reply.choices) == [0, 1, 2]
    assert {choice.message.content for choice in reply.choices} == {one.choices[0].message.content}
    assert reply.usage is not None
    assert one.usage is not None
    assert reply.usage.completion_tokens == 3 * one.usage.completion_tokens


def test_n_sampled_choices_differ(ask: Asking) -> None:
    reply = ask.whole(n=4, temperature=1.5, seed=11)
    assert len({choice.message.content for choice in reply.choices}) > 1


def test_equal_seeds_give_equal_replies(ask: Asking) -> None:
    replies = [ask.whole(seed=seed, temperature=1.2).choices[0].message.content for seed in (5, 5, 6, 7)]
    assert replies[0] == replies[1]
    assert len(set(replies)) > 1
    greedy = [ask.whole(seed=seed, temperature=0).choices[0].message.content for seed in (1, 2)]
    assert len(set(greedy)) == 1


def test_log_probabilities_spell_the_text_and_are_probabilities(ask: Asking) -> None:
    choice = ask.whole(logprobs=True, top_logprobs=3, max_tokens=5).choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert len(tokens) == 5
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == choice.message.content
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        likeliest = token.top_logprobs
        assert len(likeliest) == 3
        # Greedy: what was said is what was likeliest.
        assert (likeliest[0].token, likeliest[0].logprob) == (token.token, token.logprob)
        assert [top.logprob for top in likeliest] == sorted((top.logprob for top in likeliest), reverse=True)
        assert sum(math.exp(top.logprob) for top in likeliest) <= 1 + 1e-6


def test_log_probabilities_without_alternatives(ask: Asking) -> None:
    choice = ask.whole(logprobs=True, max_tokens=4).choices[0]
    assert choice.logprobs is not None
    assert [token.top_logprobs for token in choice.logprobs.content or []] == [[]] * 4
    assert ask.whole(max_tokens=4).choices[0].logprobs is None
    assert ask.whole(max_tokens=4, logprobs=False).choices[0].logprobs is None


def test_a_biased_token_is_never_or_always_said(ask: Asking) -> None:
    first = ask.whole(max_tokens=1, logprobs=True).choices[0].message.content
    forced = ask.whole(max_tokens=3, logit_bias={"260": 100}, logprobs=True).choices[0]
    assert forced.logprobs is not None
    said = {token.token for token in forced.logprobs.content or []}
    assert len(said) == 1
    assert said != {first}


def test_roles_and_turns_reach_the_model(ask: Asking) -> None:
    last = {"role": "user", "content": "And Italy?"}
    earlier = [
        {"role": "system", "content": "You answer with the capital of a country and nothing else."},
        {"role": "user", "content": "France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "Spain?"},
        {"role": "assistant", "content": "Madrid."},
    ]
    assert "Rome" in (ask.whole(messages=[*earlier, last], max_tokens=8).choices[0].message.content or "")
    assert "Rome" not in (ask.whole(messages=[last], max_tokens=8).choices[0].message.content or "")


def test_developer_messages_count_like_system_messages(ask: Asking) -> None:
    user = {"role": "user", "content": QUESTION}
    replies = [
        ask.whole(messages=[{"role": role, "content": "Answer in one word."}, user]) for role in ("developer", "system")
    ]
    assert replies[0].choices[0].message.content == replies[1].choices[0].message.content


def test_text_parts_are_the_text(ask: Asking) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert ask.whole(messages=parts).choices[0].message.content == ask.whole().choices[0].message.content
    system = {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
    }
    assert ask.whole(messages=[system, *parts]).choices[0].message.content


def test_an_earlier_reply_can_be_sent_back_as_it_came(ask: Asking) -> None:
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    said = ask.whole().choices[0].message
    turns = [*asked, said.to_dict(), {"role": "user", "content": "Thank you."}]
    assert ask.whole(messages=turns).choices[0].message.content
    # The SDK also takes the object itself.
    assert ask.whole(messages=[*asked, said, {"role": "user", "content": "Thank you."}]).choices[0].message.content


@pytest.mark.parametrize(
    "field",
    [
        {"metadata": {"case": "conformance", "empty": ""}},
        {"store": True},
        {"store": False},
        {"user": "ada"},
        {"safety_identifier": "0f3a"},
        {"prompt_cache_key": "conversation-1"},
        {"reasoning_effort": "low"},
        {"service_tier": "auto"},
        {"verbosity": "medium"},
        {"modalities": ["text"]},
        {"parallel_tool_calls": None},
        {"presence_penalty": 0.5, "frequency_penalty": 0.5},
        {"top_p": 0.9},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"stop": None, "seed": None, "n": None, "logprobs": None, "top_logprobs": None, "logit_bias": None},
        {"temperature": None, "top_p": None, "max_tokens": 2, "max_completion_tokens": None, "response_format": None},
    ],
    ids=str,
)
def test_a_field_that_asks_for_nothing_else_is_taken(ask: Asking, field: dict[str, Any]) -> None:
    assert ask.whole(**{"max_tokens": 2} | field).choices[0].message.content


def test_nothing_is_needed_but_a_model_and_messages(ask: Asking) -> None:
    # Nearly as long as the context holds, so that an answer of any length soon ends.
    reply = ask.whole(messages="river " * 960, temperature=..., max_tokens=...)
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0


def test_every_answer_can_be_told_by_its_request_id(client: OpenAI, ask: Asking) -> None:
    replies = [client.chat.completions.create(**ask.fields()) for _ in range(2)]
    assert all(reply._request_id for reply in replies)
    assert replies[0]._request_id != replies[1]._request_id
    assert client.models.list()._request_id  # type: ignore[attr-defined]
