"""What is begun beside other work gives its value or its error, and never outlives the block that began it."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from gateway.datasets.ahead import beside, one_ahead


async def _value(ended: list[str], seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
        return "value"
    finally:
        ended.append("value")


async def test_what_is_done_beside_is_there_when_it_is_awaited() -> None:
    async with beside(_value([], 0.0)) as coming:
        assert await coming == "value"


async def test_what_is_done_beside_ends_with_a_block_that_fails() -> None:
    ended = list[str]()

    async def fail() -> None:
        async with beside(_value(ended, 3600.0)):
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert ended == ["value"]


async def test_an_error_beside_is_raised_as_it_is_where_the_value_is_awaited() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        async with beside(fail()) as coming:
            await coming


async def test_what_is_read_ahead_is_closed_when_nobody_wants_more() -> None:
    closed = list[str]()

    async def source() -> AsyncGenerator[int, None]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append("source")

    items = one_ahead(source())
    assert [await anext(items), await anext(items)] == [0, 1]
    await items.aclose()
    assert closed == ["source"]
