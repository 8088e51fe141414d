"""Takes server-sent events apart, however their bytes were cut on the way. Pure."""

from gateway.errors import UpstreamError

MAX_EVENT_BYTES = 4 << 20


class EventSplitter:
    """Collects bytes until lines are complete."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def payloads(self, data: bytes) -> list[bytes]:
        """The `data:` of every line that `data` completes. Raises `UpstreamError` for a line without end."""
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UpstreamError("The engine sent an endless line; see the engine's log.")
        return [line[5:].strip() for line in lines if line[:5] == b"data:"]
