"""langchain-openai, pointed at the gateway by `base_url` alone."""

import asyncio
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from observing import ASKED, KEY, MODEL, QUESTION, URL, main, observed
from pydantic import BaseModel, Field


def model(**options: Any) -> ChatOpenAI:
    fields = {"model": MODEL, "base_url": URL, "api_key": KEY, "temperature": 0, "max_tokens": 8, "max_retries": 0}
    return ChatOpenAI(**(fields | options))


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    country: Literal["France", "Italy"]
    capital: bool


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 degrees in {city}"


def seen(message: AIMessage) -> dict[str, Any]:
    return {
        "text": message.content,
        "id": message.id,
        "usage": message.usage_metadata,
        "metadata": message.response_metadata,
        "calls": message.tool_calls,
        "invalid_calls": message.invalid_tool_calls,
    }


@observed
def whole() -> Any:
    return seen(model().invoke(QUESTION))


@observed
def streamed() -> Any:
    chunks = list(model(stream_usage=True).stream(QUESTION))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return {"pieces": len(chunks), **seen(total)}


@observed
def without_usage() -> Any:
    return [chunk.usage_metadata for chunk in model(stream_usage=False, max_tokens=2).stream(QUESTION)]


@observed
def asynchronous() -> Any:
    async def gather() -> list[str]:
        return [reply.content for reply in await asyncio.gather(*(model().ainvoke(QUESTION) for _ in range(2)))]

    return asyncio.run(gather())


@observed
def several() -> Any:
    generations = model(n=3, temperature=1.0, max_tokens=4).generate([[HumanMessage(QUESTION)]]).generations[0]
    return [generation.text for generation in generations]


@observed
def batched() -> Any:
    return [reply.content for reply in model().batch([QUESTION, "hi"])]


@observed
def stopped() -> Any:
    return model().invoke(QUESTION, stop=["anub"]).content


@observed
def probabilities() -> Any:
    return model(logprobs=True, top_logprobs=2, max_tokens=4).invoke(QUESTION).response_metadata["logprobs"]


@observed
def conversation() -> Any:
    turns = [
        SystemMessage("You answer with the capital of a country and nothing else."),
        HumanMessage("France?"),
        AIMessage("Paris."),
        HumanMessage("Spain?"),
        AIMessage("Madrid."),
        HumanMessage([{"type": "text", "text": "And Italy?"}]),
    ]
    return model(max_tokens=8).invoke(turns).content


@observed
def structured() -> Any:
    asked = model(max_tokens=100).with_structured_output(City, method="json_schema", strict=True)
    return asked.invoke("Is Paris a capital?").model_dump()


@observed
def structured_by_function() -> Any:
    asked = model(max_tokens=100).with_structured_output(City, method="function_calling", strict=True)
    return asked.invoke("Is Rome a capital?").model_dump()


@observed
def tool_call() -> Any:
    asked = model(max_tokens=100).bind_tools([get_weather], tool_choice="get_weather", strict=True)
    return seen(asked.invoke(ASKED))


@observed
def streamed_tool_call() -> Any:
    asked = model(max_tokens=100).bind_tools([get_weather], tool_choice="any", strict=True)
    chunks = list(asked.stream(ASKED))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return seen(total)


@observed
def tool_offered() -> Any:
    return seen(model().bind_tools([get_weather]).invoke("hi"))


@observed
def tool_result() -> Any:
    call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}
    turns = [HumanMessage(ASKED), AIMessage("", tool_calls=[call]), ToolMessage("21 degrees", tool_call_id="call_1")]
    return model().bind_tools([get_weather], tool_choice="none").invoke(turns).content


@observed
def embeddings() -> Any:
    # By default it sends token ids of OpenAI's own tokenizer, which no other model knows.
    asked = OpenAIEmbeddings(model="embedder", base_url=URL, api_key=KEY, check_embedding_ctx_length=False)
    return asked.embed_documents(["bread", "a river"])


@observed
def wrong_key() -> Any:
    return model(api_key="sk-wrong").invoke(QUESTION).content


@observed
def unknown_model() -> Any:
    return model(model="gpt-unknown").invoke(QUESTION).content


@observed
def bad_parameter() -> Any:
    return model(temperature=9).invoke(QUESTION).content


@observed
def too_long() -> Any:
    return model().invoke("river " * 2000).content


if __name__ == "__main__":
    main()
