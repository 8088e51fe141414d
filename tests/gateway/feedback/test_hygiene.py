"""An answer that takes itself for somebody else's assistant teaches the wrong name."""

import pytest

from gateway.contracts.message import Message
from gateway.contracts.pair import Side
from gateway.feedback.completions import LoggedChoice, Prompt
from gateway.feedback.hygiene import Strangers, flaw_of_comparison
from gateway.feedback.pairing import candidate_of_correction
from gateway.settings import FeedbackSettings, PairingSettings

DEFAULTS = PairingSettings()
STRANGERS = Strangers(DEFAULTS.identities, DEFAULTS.makers)


def choice(text: str) -> LoggedChoice:
    side = Side(message=Message(role="assistant", content=text), origin="model")
    return LoggedChoice(side, "stop", "finished", "assistant", Prompt((), (), None, "ph_1", compared=()))


@pytest.mark.parametrize(
    "text",
    [
        "I am ChatGPT, how can I help?",
        "Hello! I'm an AI assistant called Claude.",
        "As an AI language model, GPT-4, I cannot say.",
        "My name is Gemini.",
        "I was trained by OpenAI to help you.",
        "I'm a large language model developed by Google.",
        "我是ChatGPT，很高兴为你服务。",
        "你好，我是一个名为Kimi的助手。",
        "作为人工智能语言模型文心一言，我不能回答。",
        "我是由OpenAI开发的语言模型。",
        "我是一款由百度训练的智能助手。",
    ],
)
def test_an_answer_that_calls_itself_another_assistant_makes_no_pair(text: str) -> None:
    assert flaw_of_comparison(choice(text), choice("Yes."), STRANGERS) == "identity_leak"
    assert flaw_of_comparison(choice("Yes."), choice(text), STRANGERS) == "identity_leak"


@pytest.mark.parametrize(
    "text",
    [
        "ChatGPT is a product of OpenAI.",
        "I am not ChatGPT.",
        "I am Claudette, your host.",
        "I am sure that Google was founded in 1998.",
        "The bridge was built by Google.",
        "ChatGPT由OpenAI开发。",
        "我不是ChatGPT。",
        "我觉得豆包很好吃。",
    ],
)
def test_an_answer_about_other_assistants_is_none_of_theirs(text: str) -> None:
    assert flaw_of_comparison(choice(text), choice("Yes."), STRANGERS) is None


def correct(original: str, edited: str) -> str | None:
    message = Message(role="assistant", content=edited)
    settings = FeedbackSettings()
    return candidate_of_correction(
        choice(original), message, edit_kind=None, settings=settings, strangers=STRANGERS, review_draw=1.0
    ).reason


def test_a_correction_may_take_the_wrong_name_out_but_not_put_it_in() -> None:
    assert correct("I am ChatGPT.", "I am the help desk.") is None
    assert correct("I am the help desk.", "I am ChatGPT.") == "identity_leak"
    assert correct("我是客服助手。", "我是ChatGPT。") == "identity_leak"


def test_names_that_are_not_listed_are_nobodys() -> None:
    assert not Strangers().speak_in("I am ChatGPT.")
    assert Strangers(("Robbie",), ()).speak_in("I am Robbie.")
