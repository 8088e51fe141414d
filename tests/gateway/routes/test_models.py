"""Models over HTTP, on both databases, as the openai SDK asks for them."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, NotFoundError
from openai.types import Model

from gateway.access.authenticate import Authenticator
from gateway.routes import models
from gateway.routes.errors import install_error_handlers
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.tables import Alias
from gateway.telemetry.metrics import Metrics
from tests.gateway.routes.test_stored import OURS, furnish


@pytest.fixture
async def client(database: Database) -> AsyncIterator[AsyncOpenAI]:
    """Over an alias of two releases."""
    await furnish(database)
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(models.router)
    app.state.services = SimpleNamespace(
        database=database, settings=Settings(), authenticator=Authenticator(database), metrics=Metrics()
    )
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app, raise_app_exceptions=False))
    async with AsyncOpenAI(base_url="http://gateway/v1", api_key=OURS, http_client=http, max_retries=0) as client:
        yield client


async def test_aliases_are_listed_and_releases_only_when_asked_for(client: AsyncOpenAI) -> None:
    listed = await client.models.list()
    assert [Model.model_validate(model.to_dict(), strict=True).id for model in listed.data] == ["assistant"]
    every = await client.models.list(extra_query={"releases": "true"})
    assert [model.id for model in every.data] == ["assistant", "assistant-20261123-1", "assistant-20261123-2"]


async def test_a_model_that_is_only_passed_on_shows_no_releases(database: Database, client: AsyncOpenAI) -> None:
    async with database.write() as session:
        (await session.get_one(Alias, "assistant")).task = "embed"
    every = await client.models.list(extra_query={"releases": "true"})
    assert [model.id for model in every.data] == ["assistant"]
    with pytest.raises(NotFoundError):
        await client.models.retrieve("assistant-20261123-1")


async def test_one_model_is_shown_and_an_unknown_one_is_404(client: AsyncOpenAI) -> None:
    assert (await client.models.retrieve("assistant")).to_dict() == {
        "id": "assistant",
        "object": "model",
        "created": 1,
        "owned_by": "alignway",
    }
    for callable_by in ("assistant-20261123-2", "rel_2"):
        assert (await client.models.retrieve(callable_by)).id == "assistant-20261123-2"
    for unknown in ("nothing", "rel_9", "meta/llama", "a\0b"):
        with pytest.raises(NotFoundError) as caught:
            await client.models.retrieve(unknown)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
