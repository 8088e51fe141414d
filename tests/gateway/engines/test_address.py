"""A server given by address: found by what it calls its model, refused when it contradicts what it is said to be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from gateway.engines.address import Server, Wanted, base_address, find_server, trouble_with
from gateway.errors import Conflict, InvalidRequest
from tests.loopback import listening

ID, OTHER = "rel_01k5m8km899wwrvb990erpdxnw", "rel_01k5m8km899wwrvb990erpdxn0"
WANTED = Wanted(ID, "assistant-20260101-1")


@dataclass
class Shown:
    """What a server lists, remembers and answers."""

    models: list[dict[str, Any]]
    version: str | None = None
    status: int = 200
    answer: dict[str, Any] = field(default_factory=lambda: {"choices": [{"message": {"content": "Hi"}}]})
    asked: list[str] = field(default_factory=list)

    async def list_models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": self.models})

    async def weight_info(self, _: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.version}, status=200 if self.version else 404)

    async def chat(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json())["model"])
        return web.json_response(self.answer, status=self.status)


@asynccontextmanager
async def served(shown: Shown) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/models", shown.list_models)
    app.router.add_get("/weight_info", shown.weight_info)
    app.router.add_post("/v1/chat/completions", shown.chat)
    async with listening(app) as url:
        yield url


@pytest.mark.parametrize("given", [" http://a:8000/v1/ ", "http://a:8000"])
def test_an_address_may_be_typed_with_or_without_v1(given: str) -> None:
    assert base_address(given) == "http://a:8000"


@pytest.mark.parametrize(
    "given", ["", "a:8000", "ftp://a", "http://", "http://a:99999", "http://key@a", "http://a?x=1", "http://a b"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        base_address(given)
    assert (refused.value.code, refused.value.param) == ("invalid_url", "urls")


@pytest.mark.parametrize(
    "model",
    [
        {"id": "assistant-20260101-1", "owned_by": "vllm"},
        {"id": ID.replace("_", "-"), "owned_by": "lmdeploy"},
        {"id": f"/store/releases/assistant/{ID}/merged"},
        {"id": "anything", "root": f"/store/releases/assistant/{ID}/merged"},
    ],
)
async def test_the_release_is_found_by_its_name_or_folder_among_others_and_proved(model: dict[str, Any]) -> None:
    shown = Shown([{"id": "another"}, model])
    async with served(shown) as url:
        assert await find_server(url, WANTED) == Server(url, model["id"], model.get("owned_by", "url"))
    assert shown.asked == [model["id"]]


FOREIGN = {"id": "m", "root": f"/store/{OTHER}/merged"}


@pytest.mark.parametrize(
    ("shown", "called", "code", "said"),
    [
        (Shown([{"id": "m"}]), None, "wrong_model", "serves m, and no model that is called assistant-20260101-1"),
        (Shown([{"id": "m"}]), "n", "wrong_model", "serves m, and no model `n`"),
        (Shown([]), "m", "server_unreachable", "no list of models"),
        (Shown([FOREIGN]), "m", "foreign_weights", f"holds other weights: those of {OTHER}"),
        (Shown([{"id": "m"}], version=OTHER), "m", "foreign_weights", f"those of {OTHER}"),
        (Shown([{"id": "m"}], status=401), "m", "server_does_not_generate", "let it in without one"),
        (Shown([{"id": "m"}], answer={"choices": []}), "m", "server_does_not_generate", "answered with no choice"),
    ],
)
async def test_a_server_that_is_not_what_it_is_said_to_be_is_refused(
    shown: Shown, called: str | None, code: str, said: str
) -> None:
    async with served(shown) as url:
        with pytest.raises(Conflict) as refused:
            await find_server(url, Wanted(ID, WANTED.name, called))
    assert refused.value.code == code
    assert said in refused.value.message


async def test_an_adapter_beside_weights_that_are_known_is_taken_for_what_it_is_said_to_be() -> None:
    async with served(Shown([{"id": "m", "parent": "weights"}], version=OTHER)) as url:
        assert (await find_server(url, Wanted(ID, "n", "m"))).model == "m"


async def test_one_that_is_gone_is_trouble_and_one_that_returned_has_to_prove_itself() -> None:
    shown = Shown([{"id": "m"}], version=OTHER, status=503)
    async with served(shown) as url:
        server = Server(url, "m", "url")
        assert await trouble_with(server, ID, 1.0, returned=False) is None
        assert "other weights" in (await trouble_with(server, ID, 1.0, returned=True) or "")
        shown.version = ID
        assert "does not answer a chat" in (await trouble_with(server, ID, 1.0, returned=True) or "")
        shown.models = [FOREIGN]
        assert "other weights" in (await trouble_with(server, ID, 1.0, returned=False) or "")
    assert "does not answer as" in (await trouble_with(server, ID, 1.0, returned=False) or "")
