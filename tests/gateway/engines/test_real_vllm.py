"""The real vLLM, started once for all tests here, in their order: adapters, weights, taking over, a failed exchange."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
import pytest_asyncio

from gateway.agent.engine_host import EngineHost
from gateway.agent.process import born
from gateway.agent.settings import ReplicaSettings
from gateway.contracts.ids import WEIGHTS_NAME, engine_name
from gateway.engines.examine import examine_engine
from gateway.engines.refusals import refusal
from gateway.errors import SwapFailed, UpstreamError, UpstreamRefused
from gateway.settings import EngineSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

BASE, RELEASE = "rel_base", "rel_candidate"
PROMPTS = ("Why is the sky blue?", "Write a line about bread.")
START_SECONDS = 240.0
MAKE_ADAPTER = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, merged = sys.argv[1:]
torch.manual_seed(7)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM")
model = get_peft_model(model, config)
for name, weight in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight, std=0.02)
model.save_pretrained(adapter)
model.merge_and_unload().save_pretrained(merged)
AutoTokenizer.from_pretrained(base).save_pretrained(merged)
"""


@dataclass
class Folders:
    """The base model, and a release over it."""

    base: Path
    adapter: Path
    merged: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A LoRA adapter that changes what the model says, and the same folded into its weights."""
    base = os.environ.get("ALIGNWAY_TEST_MODEL")
    if base is None:
        find = "from alignment.base_models.bundled import bundled_model; print(bundled_model())"
        base = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    made = tmp_path_factory.mktemp("release")
    folders = Folders(Path(base), made / "adapter", made / "merged")
    arguments = [str(folder) for folder in (folders.base, folders.adapter, folders.merged)]
    subprocess.run([sys.executable, "-c", MAKE_ADAPTER, *arguments], check=True)
    return folders


def make_host(data_dir: Path) -> EngineHost:
    engine = EngineSettings(kind="vllm", args=("--max-model-len", "1024"))
    return EngineHost("assistant-1", ReplicaSettings(engine=engine), data_dir)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine's log and record are."""
    return tmp_path_factory.mktemp("data")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def host(folders: Folders, data_dir: Path) -> AsyncIterator[EngineHost]:
    """vLLM on the base weights."""
    host = make_host(data_dir)
    began = time.monotonic()
    await host.start(BASE, folders.base)
    assert time.monotonic() - began < START_SECONDS
    yield host
    await host.stop()


async def chat(host: EngineHost, model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 12, "temperature": 0}
    async with aiohttp.ClientSession() as session, session.post(host.url + "/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["choices"][0]["message"]["content"])


async def chats(host: EngineHost, model: str) -> list[str]:
    return [await chat(host, model, prompt) for prompt in PROMPTS]


async def test_adapter_speaks_under_its_name_and_equals_its_merged_weights(host: EngineHost, folders: Folders) -> None:
    base = await chats(host, WEIGHTS_NAME)
    await host.control.load_adapter(RELEASE, folders.adapter)
    by_adapter = await chats(host, engine_name(RELEASE))
    assert by_adapter != base
    assert await chats(host, WEIGHTS_NAME) == base
    began = time.monotonic()
    await host.control.replace_weights(RELEASE, folders.merged)
    print(f"weights replaced in {time.monotonic() - began:.2f} s")
    assert await host.control.held_weights() == RELEASE
    assert await chats(host, WEIGHTS_NAME) == by_adapter
    with pytest.raises(UpstreamError, match="does not exist"):
        await host.control.probe(engine_name(RELEASE))
    await host.control.replace_weights(BASE, folders.base)
    assert await chats(host, WEIGHTS_NAME) == base


async def test_unloaded_adapter_answers_no_more(host: EngineHost, folders: Folders) -> None:
    await host.control.load_adapter("rel_another", folders.adapter)
    await host.control.probe("rel-another")
    await host.control.unload_adapter("rel_another")
    with pytest.raises(UpstreamError, match="does not exist"):
        await host.control.probe("rel-another")


async def test_adapter_that_is_not_there_is_refused(host: EngineHost, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError):
        await host.control.load_adapter("rel_missing", tmp_path / "nothing")
    await host.control.probe(WEIGHTS_NAME)


async def test_doctor_finds_nothing_missing(host: EngineHost) -> None:
    assert {finding.check: finding.status for finding in await examine_engine(host.url)} == {
        "reachable": "ok",
        "generates": "ok",
        "adapters": "ok",
        "pause": "ok",
        "weight version": "ok",
        "address": "ok",
    }


async def test_tools_are_a_clear_refusal_where_the_model_s_template_shows_none(host: EngineHost) -> None:
    weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    messages = [{"role": "user", "content": "Is it raining?"}]
    body = {"model": WEIGHTS_NAME, "messages": messages, "tools": [weather], "max_tokens": 4}
    async with aiohttp.ClientSession() as session, session.post(host.url + "/v1/chat/completions", json=body) as answer:
        error = refusal(answer.status, await answer.read(), asked_grammar=True)
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.param, error.code) == (400, "tools", "unsupported_parameter")


async def test_next_agent_takes_the_running_engine_over(host: EngineHost, data_dir: Path) -> None:
    another = make_host(data_dir)
    assert await another.adopt()
    assert (another.record.pid, another.record.release_id) == (host.record.pid, BASE)
    await another.control.close()


async def test_weights_that_do_not_load_are_a_failed_swap_and_all_of_the_engine_can_be_ended(
    host: EngineHost, tmp_path: Path
) -> None:
    leader = psutil.Process(host.record.pid)
    everything = [leader, *leader.children(recursive=True)]
    assert len(everything) > 1
    with pytest.raises(SwapFailed):
        await host.control.replace_weights("rel_missing", tmp_path / "nothing")
    await host.stop()
    assert [process for process in everything if born(process.pid) is not None] == []
