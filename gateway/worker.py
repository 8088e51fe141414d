"""One gateway worker: `python -m gateway.worker FD`, with its settings as one line of JSON on standard input.

Standard input stays open as the lifeline to the parent, which also holds the listening socket: a worker that dies
takes no connection with it but its own.
"""

import gc
import socket
import sys

import uvicorn

from gateway.app import create_app
from gateway.lifeline import end_with_parent, read_first_line
from gateway.logs import configure_logs
from gateway.settings import Settings

BACKLOG = 4096


def main() -> None:
    """Serve until SIGTERM, then drain."""
    settings = Settings.model_validate_json(read_first_line())
    end_with_parent()
    configure_logs()
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.server.drain_seconds),
        h11_max_incomplete_event_size=16 << 10,
    )
    gc.freeze()  # a large heap of modules is not scanned again and again
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
