"""The two places of one replica for an engine: the one that serves, and one beside it, which starts or drains."""

import asyncio

from gateway.agent.engine_host import EngineHost


class EngineHosts:
    """Where the engine is that serves, and the other place. The duties of an agent share it."""

    def __init__(self, serving: EngineHost) -> None:
        self.serving = serving
        self.spare = serving.beside()

    def change(self) -> None:
        """The engine in the other place serves from now on."""
        self.serving, self.spare = self.spare, self.serving

    async def adopt(self, url: str | None) -> bool:
        """Take over what an agent before this one left running: the engine at `url` serves, the other may drain.

        False: none is left that could serve.
        """
        if url is not None and self.spare.recorded_url == url:
            self.change()
        await self.spare.adopt()
        return await self.serving.adopt()

    async def stop(self) -> None:
        """End both."""
        await asyncio.gather(self.serving.stop(), self.spare.stop())
