"""Blue and green by address: servers that nobody of ours runs, the release they hold tried, promoted, left, gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from openai import APIStatusError
from sqlalchemy import select

from gateway.bootstrap import ResolvedModel, ensure_alias, ensure_replicas
from gateway.engines.scripted_engine import Folder, ScriptedEngine
from gateway.engines.scripted_routes import build_app
from gateway.storage.tables import Replica
from tests.end_to_end.test_release_commands import typed
from tests.end_to_end.test_swap_under_load import Heard, heard_from, traffic
from tests.loopback import listening
from tests.patience import patient
from tests.stack import Stack, base_ref, running, stack_settings, write_weights

PROMOTE = "/admin/v1/aliases/assistant/promote"


@contextlib.asynccontextmanager
async def server_of(folder: Path, marker: str) -> AsyncIterator[str]:
    """A server that holds weights of its own and calls them `weights`; its address."""
    write_weights(folder, marker)
    engine = ScriptedEngine(Folder.read(folder, "config.json"), chunk_seconds=0.01)
    async with listening(build_app(engine)) as url:
        yield url


async def replicas_of(stack: Stack) -> dict[str, dict[str, Any]]:
    """By address."""
    _, found = await stack.call("GET", "/admin/v1/replicas")
    return {replica["url"]: replica for replica in found["data"]}


async def start_again(stack: Stack) -> None:
    """What a start of the gateway does with its models."""
    (model,) = stack.settings.models
    resolved = ResolvedModel(model.model, base_ref().model_dump(), "weights")
    async with stack.database.write() as session:
        await ensure_replicas(session, model, await ensure_alias(session, model, resolved), resolved)


async def answers_as(stack: Stack, release_id: str) -> bool:
    try:
        return bool((await stack.ask("[words:1] who")).system_fingerprint == release_id)
    except APIStatusError:
        return False  # its server is gone, and nobody has noticed yet


async def test_a_release_is_tried_promoted_left_at_once_and_forgotten_by_address(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as servers:
        blue = await servers.enter_async_context(server_of(tmp_path / "blue", "BASE"))
        engine = {"kind": "url", "url": blue, "model": "weights"}
        model = {"model": str(tmp_path / "blue"), "engine": engine}
        pool = {"probe_seconds": 0.2, "probe_failures": 2}
        settings = stack_settings(tmp_path, models=[model], pool=pool, server={"workers": 2})
        stack = await servers.enter_async_context(running(settings))
        green_server = contextlib.AsyncExitStack()
        green = await green_server.enter_async_context(server_of(tmp_path / "green", "ONE"))
        async with listening(web.Application()) as nowhere:
            pass
        base_id = (await stack.ask("[words:1] who")).system_fingerprint
        one = await stack.make_release("ONE")
        stop, heard = asyncio.Event(), list[Heard]()
        lanes = [asyncio.create_task(traffic(stack, stop, heard, lane)) for lane in range(6)]

        said = {"urls": [green], "served_model": "weights"}
        for refused, code in (({"urls": [nowhere]}, "server_unreachable"), ({"urls": [green]}, "wrong_model")):
            status, answer = await stack.call("POST", PROMOTE, {"release": one.id, **refused})
            assert (status, answer["error"]["code"], answer["error"]["type"]) == (409, code, "conflict_error")
        status, answer = await stack.call("POST", PROMOTE, {"release": one.id})
        assert (status, answer["error"]["code"]) == (409, "replica_not_managed")
        _, key = await stack.call("POST", "/admin/v1/keys", {"name": "promoter", "scopes": ["promote"]})
        bearer = f"Bearer {key['key']}"
        status, answer = await stack.call("POST", PROMOTE, {"release": one.id, **said}, authorization=bearer)
        assert (status, answer["error"]["code"]) == (403, "missing_scope")
        rollout = await stack.promote(one.id, strategy="canary", canary_share=0.5, **said)
        await stack.until(partial(heard_from, heard, one.id))
        await start_again(stack)
        assert (await replicas_of(stack))[green]["origin"] == "promotion"
        rollout = await stack.promote(one.id)
        assert (await stack.ended(rollout["id"]))["state"] == "promoted"
        await stack.until(partial(nothing_in_flight, stack, blue))

        stop.set()
        await asyncio.gather(*lanes)
        await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {"reason": "test"})
        async with asyncio.timeout(patient(1)):
            while (await stack.ask("[words:1] who")).system_fingerprint != base_id:
                await asyncio.sleep(0.01)
        await stack.until(partial(is_forgotten, stack, green))
        says = {base_id: {"BASE"}, one.id: {"ONE"}}
        for one_heard in heard:
            assert one_heard.finish_reason in ("stop", "length")
            (release_id,) = one_heard.release_ids
            assert one_heard.markers == says[release_id]

        again = await typed(stack, "promote", one.name, "--url", f"{green}/v1", "--served-model", "weights")
        assert again["state"] == "promoted"
        await green_server.aclose()
        await stack.until(partial(answers_as, stack, str(base_id)))


async def nothing_in_flight(stack: Stack, url: str) -> bool:
    return bool((await replicas_of(stack))[url]["in_flight"] == 0)


async def is_forgotten(stack: Stack, url: str) -> bool:
    async with stack.database.read() as session:
        return url not in set(await session.scalars(select(Replica.url)))
