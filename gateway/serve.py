"""A gateway worker's server: uvicorn with the lane for chats, draining when it is told to stop."""

import asyncio
import gc
import math
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.relay.lane import chat_lane
from gateway.settings import Settings

BACKLOG = 4096
GC_THRESHOLDS = 10_000, 20, 20
"""Answers leave no garbage in circles behind, so it is looked for less often than by default."""
FAREWELL_SECONDS = 2
"""When the time to drain is over, what is still open has this long to tell its client."""


class DrainingServer(uvicorn.Server):
    """Says at once that it drains, and ends what is still open in words when the time is over; exits with 0."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: not ready from now on. The signal is not raised again at the end, as uvicorn would."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self._app.state.draining = self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, wait for the open ones, end those that last too long."""
        over = asyncio.get_running_loop().call_later(self._drain_seconds, self._app.state.drain.end)
        try:
            await super().shutdown(sockets)
        finally:
            over.cancel()


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM, then drain."""
    app, server = create_app(settings), settings.server
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=chat_lane(app, server.header_limit_bytes, server.receipt_seconds),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # its words become events like ours
        log_level="warning",
        backlog=BACKLOG,
        timeout_keep_alive=server.keep_alive_seconds,
        timeout_graceful_shutdown=math.ceil(server.drain_seconds) + FAREWELL_SECONDS,
    )
    gc.freeze()  # a large heap of modules is not scanned again and again
    gc.set_threshold(*GC_THRESHOLDS)
    DrainingServer(config, app, server.drain_seconds).run(sockets=[listener])
