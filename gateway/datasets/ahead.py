"""Works at two things at once; what is begun ends with the block that began it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

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
            await _end(coming)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[Awaitable[T]]:
    """What comes of `work`, to be awaited; it is done meanwhile."""
    coming = asyncio.ensure_future(work)
    try:
        yield coming
    finally:
        await _end(coming)


async def _end(coming: "asyncio.Future[Any]") -> None:
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
