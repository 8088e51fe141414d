"""What a whole Alignway tells of its work: one sum over its workers, spans, log lines; and no secret in any."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.engine_stub import KEY, Call, asked, delta, events_of, stack_over_stub
from tests.gateway.telemetry.collector import collecting
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROMPT = "a prompt nobody else may read"


async def scraped(stack: Stack) -> dict[str, float]:
    """Every sample that one worker shows, summed over its labels. A new connection each time reaches any worker."""
    async with aiohttp.ClientSession() as session, session.get(f"{stack.url}/metrics") as response:
        text = await response.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = f"{sample.name}:{sample.labels['outcome']}" if "outcome" in sample.labels else sample.name
            found[name] = found.get(name, 0.0) + sample.value
    return found


async def test_any_worker_shows_the_sum_of_all_and_a_kill_takes_nothing_back(tmp_path: Path) -> None:
    settings = stack_settings(tmp_path, server={"workers": 2})
    async with running(settings) as stack:
        await stack.until(lambda: shows(stack, "alignway_gateway_workers", 2))
        await asyncio.gather(*(fresh_ask(stack, number) for number in range(20)))
        await stack.until(lambda: shows(stack, "alignway_requests_total:finished", 20), 3)
        shown = await scraped(stack)
        for _ in range(8):
            assert (await scraped(stack))["alignway_requests_total:finished"] == 20
        pid = stack.supervisor.pid("gateway-1")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(40):  # over its death, its absence and its return
            now = await scraped_once_up(stack)
            assert now["alignway_requests_total:finished"] == 20
            assert now["alignway_completion_tokens_total"] == shown["alignway_completion_tokens_total"]
            await asyncio.sleep(0.1)
        await stack.until(lambda: shows(stack, "alignway_gateway_workers", 2))
        await asyncio.gather(*(fresh_ask(stack, number) for number in range(10)))
        await stack.until(lambda: shows(stack, "alignway_requests_total:finished", 30), 3)
        assert len(list((settings.data_dir / "metrics").glob("*.alive"))) == 2
    assert (settings.data_dir / "metrics" / "departed").exists()


async def test_a_stream_is_traced_counted_and_logged_without_its_prompt(tmp_path: Path) -> None:
    async with collecting() as collector:
        telemetry = {"otlp_endpoint": collector.url, "request_log": "all"}
        async with stack_over_stub(tmp_path, telemetry=telemetry) as (stack, engine):

            async def speak(call: Call) -> None:
                usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
                await call.say(
                    delta("one"), delta(" two"), delta("", "stop"), {"choices": [], "usage": usage}, "[DONE]"
                )

            engine.behaviour = speak
            headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
            body = {"model": "assistant", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
            async with aiohttp.ClientSession() as session:
                url = f"{stack.url}/v1/chat/completions"
                async with session.post(url, json=body, headers=KEY | headers) as response:
                    assert (await events_of(response))[-1] == "[DONE]"
                async with session.post(url, json=body, headers={"authorization": "Bearer sk-wrongkey99"}) as refused:
                    assert refused.status == 401
            told = engine.calls[-1].request.headers["traceparent"]
            shown = await scraped(stack)
            logs = stack.logs(100_000)
    (span,) = (span for span in collector.spans if span["trace_id"] == TRACE_ID)
    assert span["parent_id"] == PARENT_ID
    assert told == f"00-{TRACE_ID}-{span['span_id']}-01"
    assert span["name"] == "chat assistant"
    wanted = {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "127.0.0.1",
        "alignway.outcome": "finished",
    }
    assert wanted.items() <= {name: value for name, value in span["attributes"].items() if name in wanted}.items()
    assert span["attributes"]["gen_ai.response.time_to_first_chunk"] <= span["seconds"] + 0.01
    assert shown["alignway_prompt_tokens_total"] == 7
    assert shown["alignway_time_per_output_token_seconds_count"] == 1
    assert shown["alignway_refusals_total"] == 1
    (line,) = (event for event in events_in(logs) if event.get("event") == "request_ended")
    assert line["completion_id"] == span["attributes"]["gen_ai.response.id"]
    assert (line["status"], line["prompt_tokens"], line["completion_tokens"]) == ("finished", 7, 2)
    for secret in (PROMPT, ADMIN_KEY, "wrongkey99", " two"):
        assert secret not in logs
        assert secret not in json.dumps(collector.spans)


async def test_the_clients_trace_reaches_the_engine_where_we_trace_nothing(tmp_path: Path) -> None:
    async with stack_over_stub(tmp_path) as (stack, engine):
        for sent, told in ((f"00-{TRACE_ID}-{PARENT_ID}-01", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("nonsense", None)):
            body = {"model": "assistant", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{stack.url}/v1/chat/completions", json=body, headers=KEY | {"traceparent": sent}
                ) as response,
            ):
                assert (await events_of(response))[-1] == "[DONE]"
            assert engine.calls[-1].request.headers.get("traceparent") == told


@pytest.mark.parametrize("request_log", ["errors", "off"])
async def test_failed_requests_are_logged_by_default_and_not_if_off(tmp_path: Path, request_log: str) -> None:
    async with stack_over_stub(tmp_path, telemetry={"request_log": request_log}) as (stack, engine):
        async with asked(stack) as response:
            await events_of(response)

        async def die(call: Call) -> None:
            await call.say(delta("half"))
            call.hang_up()

        engine.behaviour = die
        async with asked(stack) as response:
            await events_of(response)
        lines = [event for event in events_in(stack.logs(100_000)) if event.get("event") == "request_ended"]
    assert [line["status"] for line in lines] == (["failed"] if request_log == "errors" else [])


async def fresh_ask(stack: Stack, number: int) -> None:
    """On a connection of its own, so that both workers get some."""
    body = {"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": f"question {number}"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/v1/chat/completions", json=body, headers=KEY) as response,
    ):
        assert response.status == 200, await response.text()


async def scraped_once_up(stack: Stack) -> dict[str, float]:
    """As `scraped`; a connection that the killed worker had taken is opened anew."""
    while True:
        try:
            return await scraped(stack)
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)


async def shows(stack: Stack, name: str, value: float) -> bool:
    return (await scraped_once_up(stack)).get(name) == value


def events_in(logs: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
