from contextlib import asynccontextmanager


@asynccontextmanager
async def opened():
    yield None
