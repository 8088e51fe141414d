"""One gateway worker: `python -m gateway.worker FD`, with its settings as one line of JSON on standard input.

Standard input stays open as the lifeline to the parent, which also holds the listening socket: a worker that dies
takes no connection with it but its own.
"""

import socket
import sys


def main() -> None:
    """Serve until SIGTERM, then drain."""
    # A worker's lines are for machines: without this, structlog loads what draws tables for people, 4 MB of it.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

    from gateway.lifeline import end_with_parent, read_first_line
    from gateway.logs import configure_logs
    from gateway.serve import serve
    from gateway.settings import Settings

    settings = Settings.model_validate_json(read_first_line())
    end_with_parent()
    configure_logs()
    serve(settings, socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
