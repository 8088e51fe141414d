"""One gateway before a real vLLM and before LMDeploy's real API server, with one model: which is which cannot be told.

LMDeploy generates with transformers, as its own engines need a GPU. What a client reads from both is compared.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from alignment.base_models.bundled import bundled_model
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.protocol import Launch
from gateway.engines.vllm import VllmLauncher
from gateway.settings import EngineSettings, Settings
from tests.cut_model import cut_model
from tests.gateway.engines.lmdeploy_servers import engine_counts, free_port, start, wait_until_up, write_python
from tests.patience import patient
from tests.stack import ADMIN_KEY, Stack

pytestmark = [
    pytest.mark.engine,
    pytest.mark.lmdeploy,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]

Json = dict[str, Any]
VLLM, LMDEPLOY = "north", "south"
RIVERS = [{"role": "user", "content": "Name three rivers."}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
SCHEMA = {"type": "object", "properties": {"river": {"type": "string", "maxLength": 9}}, "required": ["river"]}
START_SECONDS = 300.0


def form(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


SAME_WORDS: dict[str, Json] = {
    "plain": {},
    "stop over two tokens": {"stop": ["iver of"], "max_tokens": 30},
    "several stops": {"stop": ["nothing", "\n", ":"], "max_tokens": 30},
    "log-probabilities": {"logprobs": True, "top_logprobs": 3},
    "log-probabilities alone": {"logprobs": True},
    "stop and log-probabilities": {"logprobs": True, "top_logprobs": 1, "stop": ["Life"], "max_tokens": 30},
    "several choices": {"n": 2},
    "json": {"response_format": form(SCHEMA), "max_tokens": 40},
    "text": {"response_format": {"type": "text"}},
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, *RIVERS]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Name three rivers."}]}]},
    "turns": {"messages": [*RIVERS, {"role": "assistant", "content": "Nile."}, {"role": "user", "content": "More."}]},
    "bias": {"logit_bias": {"28": -100}},
    "greedy top-k": {"temperature": 1, "top_k": 1},
    "no tools wanted": {"tools": TOOLS, "tool_choice": "none"},
    "effort": {"reasoning_effort": "low"},
    "tokens by their new name": {"max_tokens": None, "max_completion_tokens": 6},
    "odds and ends": {"user": "ann", "seed": -3, "parallel_tool_calls": False, "min_p": 0.0, "top_k": -1},
}
"""Whole and streamed, these must be answered in the same words."""
SAME_SHAPE: dict[str, Json] = {
    "sampled": {"temperature": 1, "seed": 5},
    "several sampled": {"temperature": 0.7, "n": 3, "seed": 5},
    "sampled with log-probabilities": {"temperature": 1, "logprobs": True, "top_logprobs": 2},
}
REFUSED: dict[str, Json] = {
    "too long": {"messages": [{"role": "user", "content": "word " * 400}]},
    "unknown token": {"logit_bias": {"99999999": 1}},
    "tools": {"tools": TOOLS},
    "tools required": {"tools": TOOLS, "tool_choice": "required"},
    "schema of nothing": {"response_format": form({"type": "nothing"})},
    "schema that refers to nothing": {"response_format": form({"$ref": "#/$defs/missing"})},
    "schema with a broken pattern": {"response_format": form({"type": "string", "pattern": "(["})},
    "top_p": {"top_p": 7},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where logs and data are."""
    return tmp_path_factory.mktemp("alike")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http(folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A gateway before both engines."""
    model, port = cut_model(bundled_model(), folder / "model"), free_port()
    mine = EngineSettings(kind="vllm", args=("--max-model-len", "256"), max_adapter_rank=0)
    launch = VllmLauncher().launch(mine, model, port, None)
    vllm = await asyncio.to_thread(start_process, launch, folder / "vllm.log")
    lmdeploy = start("transformers", write_python(folder), model, folder / "lmdeploy.log")
    urls = {VLLM: f"http://127.0.0.1:{port}", LMDEPLOY: lmdeploy.url}
    dialects = {VLLM: "vllm", LMDEPLOY: "lmdeploy"}
    engines = {alias: {"kind": "url", "url": url, "dialect": dialects[alias]} for alias, url in urls.items()}
    models = [{"alias": alias, "model": str(model), "engine": engine} for alias, engine in engines.items()]
    fields = {"data_dir": folder / "data", "admin_key": ADMIN_KEY, "models": models, "aligner": {"enabled": False}}
    stack = Stack(Settings.model_validate(fields))
    try:
        await asyncio.to_thread(wait_until_up, lmdeploy)
        await until_answering(urls[VLLM])
        await stack.start()
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        async with aiohttp.ClientSession(stack.url, headers=headers) as session:
            yield session
    finally:
        await stack.stop()
        for process in (vllm, lmdeploy.process):
            process.terminate()
            process.wait(60)


def start_process(launch: Launch, log: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | dict(launch.environment) | {"OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("wb") as output:
        return subprocess.Popen(launch.command, env=environment, stdout=output, stderr=subprocess.STDOUT)


async def until_answering(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/v1/models"):
                    return
            except aiohttp.ClientError:
                assert time.monotonic() < deadline, "vLLM did not start"
                await asyncio.sleep(0.5)


async def ask(http: aiohttp.ClientSession, alias: str, change: Json) -> tuple[int, dict[str, str], bytes]:
    body = {"model": alias, "messages": RIVERS, "max_tokens": 8, "temperature": 0} | change
    body = {name: value for name, value in body.items() if value is not None}
    async with http.post("/v1/chat/completions", json=body) as response:
        return response.status, dict(response.headers), await response.read()


def shape(value: Any) -> Any:
    """The types in a JSON value; a list has the shapes of its elements, each once."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(inner), sort_keys=True) for inner in value})
    return type(value).__name__


def reads(reply: Json) -> list[Any]:
    """What a reader gets from a reply; log-probabilities to two digits, as both compute them in float32."""
    return [
        (choice["index"], choice["message"]["content"], choice["finish_reason"], likely(choice["logprobs"]))
        for choice in reply["choices"]
    ]


def likely(logprobs: Json | None) -> list[Any]:
    tokens = (logprobs or {}).get("content") or []
    return [
        (token["token"], token["bytes"], round(token["logprob"], 2), [top["token"] for top in token["top_logprobs"]])
        for token in tokens
    ]


def chunks_of(stream: bytes) -> list[Json]:
    events = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    return [json.loads(event) for event in events[:-1]]


def joined(chunks: list[Json]) -> Json:
    """A stream put together, so that it can be compared however it was cut."""
    choices: dict[int, Json] = {}
    for raw in (choice for chunk in chunks for choice in chunk["choices"]):
        new: Json = {"content": "", "logprobs": [], "reasons": [], "roles": []}
        choice = choices.setdefault(raw["index"], new)
        assert raw["delta"].keys() <= {"role", "content"}
        assert raw.keys() == {"index", "delta", "logprobs", "finish_reason"}
        choice["content"] += raw["delta"].get("content", "")
        choice["logprobs"] += likely(raw["logprobs"])
        choice["reasons"] += [raw["finish_reason"]] if raw["finish_reason"] else []
        choice["roles"] += [raw["delta"]["role"]] if "role" in raw["delta"] else []
    heads = {json.dumps([sorted(chunk), chunk["object"]]) for chunk in chunks}
    return {"choices": sorted(choices.items()), "heads": sorted(heads), "usage": chunks[-1]["usage"]}


def assert_usage_alike(south: Json, north: Json, ended: int) -> None:
    """LMDeploy does not count the token that ends an answer by itself; what is cached depends on what was asked before.

    `ended`: how many choices ended with `stop`.
    """
    assert shape(south) == shape(north)
    assert south["prompt_tokens"] == north["prompt_tokens"]
    assert 0 <= north["completion_tokens"] - south["completion_tokens"] <= ended
    assert south["total_tokens"] == south["prompt_tokens"] + south["completion_tokens"]


@pytest.mark.parametrize("name", SAME_WORDS)
async def test_both_answer_in_the_same_words(http: aiohttp.ClientSession, name: str) -> None:
    replies = []
    for alias in (VLLM, LMDEPLOY):
        status, headers, body = await ask(http, alias, SAME_WORDS[name])
        assert status == 200, body
        replies.append((sorted(headers), json.loads(body)))
    (names, north), (other_names, south) = replies
    assert shape(south) == shape(north)
    assert other_names == names
    assert reads(south) == reads(north)
    ended = sum(choice["finish_reason"] == "stop" for choice in north["choices"])
    assert_usage_alike(south["usage"], north["usage"], ended)


@pytest.mark.parametrize("name", SAME_WORDS)
async def test_both_stream_the_same_words(http: aiohttp.ClientSession, name: str) -> None:
    streams = []
    change = SAME_WORDS[name] | {"stream": True, "stream_options": {"include_usage": True}}
    for alias in (VLLM, LMDEPLOY):
        status, headers, body = await ask(http, alias, change)
        assert status == 200, body
        streams.append(joined(chunks_of(body)) | {"headers": sorted(headers)})
    north, south = streams
    ended = sum(choice["reasons"] == ["stop"] for _, choice in north["choices"])
    assert_usage_alike(south.pop("usage"), north.pop("usage"), ended)
    assert south == north
    assert all(choice["roles"] == ["assistant"] for _, choice in north["choices"])


@pytest.mark.parametrize("name", SAME_SHAPE)
async def test_both_answer_in_the_same_shape(http: aiohttp.ClientSession, name: str) -> None:
    shapes = []
    for alias in (VLLM, LMDEPLOY):
        status, _, body = await ask(http, alias, SAME_SHAPE[name])
        assert status == 200, body
        shapes.append(shape(json.loads(body)))
    assert shapes[1] == shapes[0]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", REFUSED)
async def test_both_refuse_alike(http: aiohttp.ClientSession, name: str, streams: bool) -> None:
    refusals = []
    for alias in (VLLM, LMDEPLOY):
        status, _, body = await ask(http, alias, REFUSED[name] | {"stream": streams})
        error = json.loads(body)["error"]
        assert not {"vllm", "lmdeploy"} & set(error["message"].lower().replace(".", " ").split())
        assert WEIGHTS_NAME not in error["message"]
        refusals.append((status, error["type"], error["param"], error["code"]))
    assert refusals[1] == refusals[0]
    assert refusals[0][0] == 400


@pytest.mark.parametrize("change", [{}, {"stop": ["no such text"]}, {"n": 2, "temperature": 1}])
async def test_whoever_leaves_ends_the_generation(http: aiohttp.ClientSession, folder: Path, change: Json) -> None:
    body = {"model": LMDEPLOY, "messages": [{"role": "user", "content": "Count to a hundred."}], "stream": True}
    async with http.post("/v1/chat/completions", json=body | {"max_tokens": 200} | change) as response:
        await response.content.readline()
        active, cut_off = engine_counts(folder / "lmdeploy.log")
        assert active == change.get("n", 1)
        response.close()
    async with asyncio.timeout(patient(1)):
        while engine_counts(folder / "lmdeploy.log") != (0, cut_off + active):
            await asyncio.sleep(0.02)
