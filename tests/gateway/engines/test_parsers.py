"""A parser is chosen by what a chat template does with a tool and a call of it; never one that is not sure."""

import json
import re
from pathlib import Path

import pytest

from gateway.engines.chat_template import ChatModel, read_chat_model
from gateway.engines.parsers import WRITTEN_CALLS, reasoning_parser, tool_parser
from gateway.engines.vllm import find_vllm
from gateway.engines.vllm_parsers import choose_parsers
from gateway.settings import EngineSettings

SHOW_TOOLS = "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
TURN = "<|im_start|>{{ message.role }}\n{{ message.content or '' }}"


def template(call: str, tools: str = SHOW_TOOLS, end: str = "") -> str:
    """A template that writes each call (`function`: its name and arguments) as `call`."""
    return (
        tools
        + "{% for message in messages %}"
        + TURN
        + "{% for made in message.tool_calls or [] %}{% set function = made.function %}"
        + call
        + "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        + end
        + "{% endif %}"
    )


HERMES = (
    """{{ '<tool_call>\n{"name": "' + function.name + '", "arguments": ' }}"""
    "{{ function.arguments | tojson }}}\n</tool_call>"
)
CODER = (
    "<tool_call>\n<function={{ function.name }}>\n{% for key, value in function.arguments.items() %}"
    "<parameter={{ key }}>\n{{ value }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
)
GLM = (
    "<tool_call>{{ function.name }}%s{%% for key, value in function.arguments.items() %%}"
    "<arg_key>{{ key }}</arg_key>\n<arg_value>{{ value }}</arg_value>\n{%% endfor %%}</tool_call>"
)
LLAMA = (
    """{{ '<|end_header_id|>\n\n{"name": "' + function.name + '", "parameters": ' }}"""
    "{{ function.arguments | tojson }}}"
)
MISTRAL = "[TOOL_CALLS][{{ function | tojson }}]"
DEEPSEEK_V3 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ function.name }}\n"
    "```json\n{{ function.arguments | tojson }}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
DEEPSEEK_V31 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ function.name }}<｜tool▁sep｜>{{ function.arguments | tojson }}"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
SWITCHED = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPENED_OR_SKIPPED = SWITCHED.replace("{% endif %}", "{% else %}<think>\n{% endif %}")
EVERY_TOKEN = frozenset({"<think>", "</think>"}.union(*(call.tokens for call in WRITTEN_CALLS)))


@pytest.fixture(scope="module")
def installed() -> tuple[frozenset[str], frozenset[str]]:
    """The parsers of the vLLM beside us."""
    found = find_vllm(None)
    return found.tool_parsers, found.reasoning_parsers


@pytest.mark.parametrize(
    ("call", "parser"),
    [
        (HERMES, "hermes"),
        (CODER, "qwen3_coder"),
        (GLM % "\n", "glm45"),
        (GLM % "", "glm47"),
        (LLAMA, "llama3_json"),
        (MISTRAL, "mistral"),
        (DEEPSEEK_V3, "deepseek_v3"),
        (DEEPSEEK_V31, "deepseek_v31"),
    ],
)
def test_each_way_to_write_a_call_has_its_parser_in_this_vllm(
    call: str, parser: str, installed: tuple[frozenset[str], frozenset[str]]
) -> None:
    chosen = tool_parser(ChatModel(template(call), EVERY_TOKEN), installed[0])
    assert chosen.parser == parser, chosen.reason


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ChatModel(""), "does not show tools"),
        (ChatModel(template(HERMES, tools="")), "does not show tools"),
        (
            ChatModel(template(HERMES, tools="{% if tools %}<tool_call> is how to call{% endif %}")),
            "does not show tools",
        ),
        (ChatModel(template("call({{ function | tojson }})")), "no parser is known"),
        (ChatModel(template("{{ raise_exception('one call only') }}")), "no parser is known"),
        (ChatModel(template("{{ 'x' + function.arguments }}")), "no parser is known"),
        (ChatModel("{% if tools %}"), "does not show tools"),
        (ChatModel("{{ ''.__class__.__mro__ }}" + template(HERMES)), "does not show tools"),
        (ChatModel(template(LLAMA)), r"no <\|python_tag\|>"),
        (ChatModel(template(MISTRAL), frozenset({"<think>"})), r"no \[TOOL_CALLS\]"),
    ],
)
def test_no_parser_is_chosen_where_it_is_not_sure(model: ChatModel, reason: str) -> None:
    chosen = tool_parser(model, frozenset(call.parser for call in WRITTEN_CALLS))
    assert chosen.parser is None
    assert re.search(reason, chosen.reason), chosen.reason


def test_a_parser_that_this_vllm_does_not_have_is_not_chosen() -> None:
    chosen = tool_parser(ChatModel(template(HERMES)), frozenset({"mistral"}))
    assert chosen.parser is None
    assert chosen.reason.endswith("but this vLLM has no parser hermes")


@pytest.mark.parametrize(
    ("end", "family", "parser"),
    [
        (SWITCHED, "qwen3", "qwen3"),
        (OPENED_OR_SKIPPED, "qwen3_5_moe", "qwen3"),
        ("<think>\n", "qwen2", "deepseek_r1"),
        ("<think>\n", "qwen3", "deepseek_r1"),
        (SWITCHED, "smollm3", None),
        (OPENED_OR_SKIPPED, "glm4_moe", None),
        ("", "qwen3", None),
        ("{{ raise_exception('no') }}", "qwen3", None),
    ],
)
def test_thoughts_are_read_where_the_template_says_when_a_model_thinks(
    end: str, family: str, parser: str | None, installed: tuple[frozenset[str], frozenset[str]]
) -> None:
    model = ChatModel(template(HERMES, end=end), frozenset({"<think>", "</think>"}), family)
    assert reasoning_parser(model, installed[1]).parser == parser
    assert reasoning_parser(ChatModel(model.template, frozenset(), family), installed[1]).parser is None


def test_gpt_oss_is_known_by_its_family(installed: tuple[frozenset[str], frozenset[str]]) -> None:
    model = ChatModel(family="gpt_oss")
    assert tool_parser(model, installed[0]).parser == "openai"
    assert reasoning_parser(model, installed[1]).parser == "openai_gptoss"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Qwen3 as it lies on a disk."""
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    tokens = [{"id": 1, "content": "<think>", "special": False}, {"id": 2, "content": "</think>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template(HERMES, end=SWITCHED)}))
    return tmp_path


def flags(folder: Path, installed: tuple[frozenset[str], frozenset[str]], **settings: object) -> tuple[str, ...]:
    return choose_parsers(EngineSettings.model_validate(settings), folder, *installed).flags


TOOL_FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
REASONING_FLAGS = ("--reasoning-parser", "qwen3")


def test_vllm_is_started_with_what_the_model_s_folder_shows(
    folder: Path, installed: tuple[frozenset[str], frozenset[str]]
) -> None:
    assert flags(folder, installed) == TOOL_FLAGS + REASONING_FLAGS
    (folder / "chat_template.jinja").write_text(template(HERMES, tools=""))  # wins over tokenizer_config.json
    assert flags(folder, installed) == ()


def test_the_operator_s_word_wins(folder: Path, installed: tuple[frozenset[str], frozenset[str]]) -> None:
    assert flags(folder, installed, tool_parser="off") == REASONING_FLAGS
    assert flags(folder, installed, reasoning_parser="off") == TOOL_FLAGS
    assert flags(folder, installed, tool_parser="xlam")[2] == "xlam"
    assert flags(folder, installed, args=["--tool-call-parser", "xlam"]) == REASONING_FLAGS
    assert flags(folder, installed, args=["--tool_call_parser=xlam"]) == REASONING_FLAGS
    assert flags(folder, installed, args=["--reasoning-parser=glm45"]) == TOOL_FLAGS
    assert flags(folder, installed, args=["--chat-template", "/my.jinja"]) == ()
    assert flags(folder, installed, args=["--chat-template", "/my.jinja"], tool_parser="hermes") == TOOL_FLAGS


def test_a_folder_that_says_nothing_gives_no_parser(
    tmp_path: Path, installed: tuple[frozenset[str], frozenset[str]]
) -> None:
    assert read_chat_model(tmp_path / "nowhere") == ChatModel()
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": null}')
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "x"}]}')
    (tmp_path / "config.json").write_text("[1]")
    assert flags(tmp_path, installed) == ()
