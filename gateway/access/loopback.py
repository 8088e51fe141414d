"""Who may call without a key: programs on this machine. Web pages may not, though a browser here opens them.

A page can send requests to loopback by a name of its own that it lets point there (DNS rebinding: the `Host` is
foreign), or from its own address (the `Origin` is foreign).
"""

from urllib.parse import urlsplit

from gateway.errors import NotPermitted
from gateway.settings import LOOPBACK


def refuse_foreign(host: str | None, origin: str | None) -> None:
    """Raise `NotPermitted` unless host, and origin if there is one, are this machine."""
    if not _is_loopback(f"//{host or ''}"):
        raise NotPermitted(
            'With `server.auth = "off"` requests must be addressed to localhost or 127.0.0.1. Use that address, or set '
            '`server.auth = "on"` and send a key.',
            code="foreign_host",
        )
    if origin is not None and not _is_loopback(origin):
        raise NotPermitted(
            'With `server.auth = "off"` web pages from elsewhere are refused. Open the page from localhost, or set '
            '`server.auth = "on"` and send a key.',
            code="foreign_origin",
        )


def _is_loopback(address: str) -> bool:
    try:
        return urlsplit(address).hostname in LOOPBACK
    except ValueError:
        return False
