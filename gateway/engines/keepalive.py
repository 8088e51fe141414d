"""TCP keep-alive: a host that vanished without a word is noticed."""

import socket
from contextlib import suppress

KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A host that vanished without a word is noticed after a minute; systems without an option do without it."""


def notice_when_gone(connected: socket.socket | None) -> None:
    """Ask now and then whether the other side of a connection is still there; None: it has no socket."""
    if connected is None:
        return
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
