"""Takes server-sent events apart, however their bytes were cut on the way. Pure."""

from gateway.errors import UpstreamError

MAX_EVENT_BYTES = 4 << 20


class EventSplitter:
    """Collects bytes until lines are complete."""

    __slots__ = ("_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        """Bytes since the last `data:` line."""

    def payloads(self, data: bytes) -> list[bytes]:
        """The `data:` of each line that `data` completes. Raises `UpstreamError` if no such line comes to an end."""
        if not self._rest and data.find(b"\n") == len(data) - 2 and data[-1:] == b"\n" and data[:5] == b"data:":
            self._size = 0
            return [data[5:].strip()]  # one event and nothing else: nearly always so
        if self._rest:
            self._rest.append(data)
            if b"\n" not in data:  # kept in pieces: to join them each time would take for ever with small ones
                self._grow(len(data))
                return []
            data = b"".join(self._rest)
            self._rest.clear()
        lines = data.split(b"\n")
        if rest := lines.pop():
            self._rest.append(rest)
        payloads = [line[5:].strip() for line in lines if line[:5] == b"data:"]
        if payloads:
            self._size = 0
        self._grow(len(rest) if payloads else len(data))
        return payloads

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise UpstreamError("The engine sent an endless line, or lines without end that say nothing; see its log.")
