"""One gateway worker: `python -m gateway.worker FD`, with its settings as one line of JSON on standard input.

Standard input stays open as the lifeline to the parent, which also holds the listening socket: a worker that dies
takes no connection with it but its own.
"""

import socket
import sys

LEFT_OUT = ("rich", "watchfiles", "email_validator", "pydantic.v1")
"""What structlog draws tables for people with, how uvicorn would notice new code, and what FastAPI asks of types that
are not used here. The libraries do without where these are not installed: 7 MB."""


def leave_out() -> None:
    """Have libraries believe that what a worker never uses is not installed."""
    for name in LEFT_OUT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def main() -> None:
    """Serve until SIGTERM, then drain."""
    leave_out()

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
