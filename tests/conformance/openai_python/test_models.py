"""The models, listed and looked up through the openai SDK."""

from openai import AsyncOpenAI, OpenAI
from openai.types import Model

from tests.conformance.conftest import Served
from tests.conformance.openai_python.conftest import Asking
from tests.conformance.strict import check


def test_models_are_listed_as_openai_lists_them(client: OpenAI, served: Served) -> None:
    response = client.models.with_raw_response.list()
    body = response.http_response.json()
    assert set(body) == {"object", "data"}
    assert body["object"] == "list"
    for model in body["data"]:
        check(Model, model)
    assert served.model in [model.id for model in response.parse()]


def test_a_model_is_looked_up_by_its_name(client: OpenAI, served: Served) -> None:
    response = client.models.with_raw_response.retrieve(served.model)
    check(Model, response.http_response.json())
    assert response.parse().id == served.model


def test_the_model_an_answer_names_can_be_looked_up_and_asked(ask: Asking, client: OpenAI) -> None:
    reply = ask.whole()
    assert client.models.retrieve(reply.model).id == reply.model
    assert reply.model not in [model.id for model in client.models.list()]
    again = ask.whole(model=reply.model)
    assert again.choices[0].message.content == reply.choices[0].message.content


async def test_the_async_client_pages_through_the_models(served: Served) -> None:
    async with AsyncOpenAI(base_url=served.url, api_key=served.key) as client:
        assert served.model in [model.id async for model in client.models.list()]
