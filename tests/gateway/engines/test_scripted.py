"""The scripted engine answers as vLLM would, says who wrote each answer, and shows it when two did."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, NotFoundError

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.scripted import ScriptedLauncher
from gateway.engines.scripted_engine import Folder, write_script
from gateway.settings import EngineSettings
from tests.gateway.engines.conftest import Served, weights
from tests.patience import patient
from tests.stack import write_adapter

ASK: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(served: Served) -> AsyncOpenAI:
    """The SDK that our users have."""
    return AsyncOpenAI(base_url=served.url + "/v1", api_key="EMPTY", max_retries=0)


async def post(served: Served, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(served.url + path, json=body) as answer:
        return answer.status, json.loads(await answer.text())


async def test_same_prompt_gets_the_same_words_and_another_choice_others(client: AsyncOpenAI) -> None:
    first = await client.chat.completions.create(model=WEIGHTS_NAME, messages=ASK, n=2)
    again = await client.chat.completions.create(model=WEIGHTS_NAME, messages=ASK, n=2)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts[0] != texts[1]
    assert all(text and text.startswith("base ") for text in texts)
    assert first.usage is not None
    assert first.usage.completion_tokens == sum(len((text or "").split()) for text in texts)


async def test_streamed_answer_is_the_whole_one_word_by_word(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=WEIGHTS_NAME, messages=ASK)
    stream = await client.chat.completions.create(
        model=WEIGHTS_NAME, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(words) == whole.choices[0].message.content
    assert len(words) == len("".join(words).split())
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_answer_is_cut_at_max_tokens(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=WEIGHTS_NAME, messages=ASK, max_tokens=3)
    assert len((answer.choices[0].message.content or "").split()) == 3
    assert answer.choices[0].finish_reason == "length"


async def test_unknown_adapter_is_404_as_in_vllm(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        await client.chat.completions.create(model="rel-unknown", messages=ASK)


async def test_weights_replaced_under_an_open_answer_show_as_two_markers(served: Served, tmp_path: Path) -> None:
    served.engine.chunk_seconds = 0.01
    body = {"model": WEIGHTS_NAME, "messages": [{"role": "user", "content": "[words:40]"}]}
    answer = asyncio.create_task(post(served, "/v1/chat/completions", body))
    await asyncio.sleep(0.1)
    arguments = {"weights_path": str(weights(tmp_path / "new", "new"))}
    await post(served, "/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
    text = (await answer)[1]["choices"][0]["message"]["content"]
    assert "base" in text.split()
    assert "new" in text.split()


async def test_an_adapter_unloaded_under_an_open_answer_writes_it_to_its_end(served: Served, tmp_path: Path) -> None:
    served.engine.chunk_seconds = 0.01
    folder = tmp_path / "adapter"
    write_adapter(folder, "lora")
    served.engine.adapters["rel-1"] = Folder.read(folder, needs="adapter_config.json")
    body = {"model": "rel-1", "messages": [{"role": "user", "content": "[words:40]"}]}
    answer = asyncio.create_task(post(served, "/v1/chat/completions", body))
    await asyncio.sleep(0.1)
    del served.engine.adapters["rel-1"]  # as the route to unload it does
    choice = (await answer)[1]["choices"][0]
    assert choice["message"]["content"].split().count("lora") == 8
    assert choice["finish_reason"] == "stop"


async def test_pause_waits_for_open_answers_and_holds_newcomers_back(served: Served) -> None:
    served.engine.chunk_seconds = 0.01
    body = {"model": WEIGHTS_NAME, "messages": [{"role": "user", "content": "[words:30]"}]}
    answer = asyncio.create_task(post(served, "/v1/chat/completions", body))
    await asyncio.sleep(0.05)
    assert (await post(served, "/pause?mode=wait", {}))[1] == {"status": "paused"}
    assert answer.done()
    newcomer = asyncio.create_task(post(served, "/v1/chat/completions", body))
    await asyncio.sleep(0.1)
    assert served.engine.in_flight == 0
    await post(served, "/resume", {})
    assert (await newcomer)[0] == 200


async def test_client_that_leaves_frees_the_engine(served: Served) -> None:
    body = {"model": WEIGHTS_NAME, "messages": [{"role": "user", "content": "[stall]"}], "stream": True}
    async with aiohttp.ClientSession() as session, session.post(served.url + "/v1/chat/completions", json=body):
        assert served.engine.in_flight == 1
    async with asyncio.timeout(patient(1)):
        await served.engine.idle.wait()


def test_marker_returns_every_five_words_and_falls_back_to_the_folder_name(tmp_path: Path) -> None:
    script = write_script("[words:11]", None, 0)
    said = "".join(script.word(index, "mark") for index in range(script.count)).split()
    assert [index for index, word in enumerate(said) if word == "mark"] == [0, 5, 10]
    assert write_script("[words:11]", 11, 0).finish_reason == "stop"


def test_launcher_passes_the_user_s_arguments_last(tmp_path: Path) -> None:
    settings = EngineSettings(kind="scripted", args=("--chunk-seconds", "0"), environment={"A": "b"})
    launch = ScriptedLauncher().launch(settings, tmp_path, 8123, None)
    assert launch.command[-6:] == ("--model", str(tmp_path), "--port", "8123", "--chunk-seconds", "0")
    assert launch.environment == {"A": "b"}
