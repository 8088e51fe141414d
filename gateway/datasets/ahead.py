"""Reads on while what was read is worked on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")
_END = object()


async def one_ahead(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The items of `source`, each while the next one is being made; the source is closed at the end."""
    async with aclosing(source):
        coming = asyncio.ensure_future(anext(source, _END))
        try:
            while (item := await coming) is not _END:
                coming = asyncio.ensure_future(anext(source, _END))
                yield item  # type: ignore[misc]  # it is no `_END`
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
