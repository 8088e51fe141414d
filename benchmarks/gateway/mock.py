"""A mock OpenAI upstream: `python -m benchmarks.gateway.mock --port 9000`. Answers at once, streams at a fixed pace.

Written on the parser alone, so that it costs less than any gateway in front of it.
"""

import argparse
import asyncio
from collections.abc import Iterator

import httptools
import msgspec
import uvloop

from benchmarks.gateway.answers import nonce_of, reply_body, stream_events

MODEL = "mock"
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
PAGES = {
    "/v1/models": b'{"object":"list","data":[{"id":"mock","object":"model","created":1795392000,"owned_by":"mock",'
    b'"root":"mock","max_model_len":32768}]}',
    "/version": b'{"version":"0.11.0"}',
    "/get_model_info": b'{"model_path":"mock","tokenizer_path":"mock","is_generation":true}',
}
"""What routers ask of an engine before they send it anything."""


class StreamOptions(msgspec.Struct):
    """The one field of `stream_options` that matters here."""

    include_usage: bool = False


class Asked(msgspec.Struct):
    """What the mock reads of a request."""

    stream: bool = False
    stream_options: StreamOptions | None = None


decode = msgspec.json.Decoder(Asked).decode


class Mock(asyncio.Protocol):
    """One connection from a gateway."""

    def __init__(self, chunks: int, pause_seconds: float) -> None:
        self._chunks, self._pause = chunks, pause_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._url, self._body = b"", b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the address."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        if self._parser.get_method() != b"POST":
            self._answer(PAGES.get(self._url.decode().split("?")[0], b'{"status":"ok"}'))
            return
        asked, nonce = decode(self._body), nonce_of(self._body)
        if not asked.stream:
            self._answer(reply_body(nonce, MODEL))
            return
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        events = stream_events(nonce, MODEL, self._chunks, with_usage)
        self._transport.write(STREAM_HEAD)
        if self._pause == 0:
            self._transport.write(b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n")
        else:
            self._send_next(iter(events), self._loop.time())

    def _answer(self, body: bytes) -> None:
        self._transport.write(PLAIN_HEAD % len(body) + body)

    def _send_next(self, events: Iterator[bytes], due: float) -> None:
        event = next(events, None)
        if event is None:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        due += self._pause  # from when the last one was due, not from when it was sent: the pace does not drift
        self._timer = self._loop.call_at(due, self._send_next, events, due)


async def serve(port: int, chunks: int, pause_seconds: float) -> None:
    """Serve until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(chunks, pause_seconds), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.mock", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=100, help="text chunks of a stream")
    parser.add_argument("--pause-ms", type=float, default=20.0, help="between two chunks")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.chunks, options.pause_ms / 1000))


if __name__ == "__main__":
    main()
