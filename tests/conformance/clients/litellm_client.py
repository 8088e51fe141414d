"""litellm's SDK, pointed at the gateway by `api_base` alone."""

import asyncio
from typing import Any

import litellm
from observing import ASKED, KEY, MODEL, QUESTION, URL, main, observed

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "country": {"enum": ["France", "Italy"]}},
    "required": ["name", "country"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def fields(**changes: Any) -> dict[str, Any]:
    asked = changes.pop("asked", QUESTION)
    return {
        "model": f"openai/{MODEL}",
        "api_base": URL,
        "api_key": KEY,
        "messages": [{"role": "user", "content": asked}],
        "temperature": 0,
        "max_tokens": 8,
        "max_retries": 0,
    } | changes


def ask(**changes: Any) -> dict[str, Any]:
    return litellm.completion(**fields(**changes)).model_dump()


@observed
def whole() -> Any:
    return ask()


@observed
def several() -> Any:
    return ask(n=2, seed=3, stop=["never said"], user="ada", metadata={"case": "conformance"})


@observed
def probabilities() -> Any:
    return ask(logprobs=True, top_logprobs=2, max_tokens=4)


@observed
def streamed() -> Any:
    chunks = list(litellm.completion(**fields(), stream=True, stream_options={"include_usage": True}))
    return litellm.stream_chunk_builder(chunks).model_dump() | {"pieces": len(chunks)}


@observed
def asynchronous() -> Any:
    async def pieces() -> list[str]:
        stream = await litellm.acompletion(**fields(), stream=True)
        return [chunk.choices[0].delta.content or "" async for chunk in stream]

    return "".join(asyncio.run(pieces()))


@observed
def structured() -> Any:
    asked = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
    return ask(asked="Describe Paris.", response_format=asked, max_tokens=100)


@observed
def tool_call() -> Any:
    return ask(asked=ASKED, tools=[WEATHER], tool_choice=NAMED, max_tokens=100)


@observed
def streamed_tool_call() -> Any:
    options = fields(asked=ASKED, tools=[WEATHER], tool_choice="required", max_tokens=100)
    return litellm.stream_chunk_builder(list(litellm.completion(**options, stream=True))).model_dump()


@observed
def tool_offered() -> Any:
    return ask(asked="hi", tools=[WEATHER])


@observed
def embeddings() -> Any:
    asked = {"model": "openai/embedder", "input": ["bread"], "encoding_format": "float"}
    return litellm.embedding(**asked, api_base=URL, api_key=KEY).model_dump()


@observed
def wrong_key() -> Any:
    return ask(api_key="sk-wrong")


@observed
def unknown_model() -> Any:
    return ask(model="openai/gpt-unknown")


@observed
def bad_parameter() -> Any:
    return ask(temperature=9)


@observed
def too_long() -> Any:
    return ask(asked="river " * 2000)


if __name__ == "__main__":
    main()
