"""An OpenAI-like embedding server: vectors that can be worked out by hand, as lists or as base64."""

import base64
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EMBEDDER = "embedder"


def vector_of(text: str, dimensions: int = 3) -> list[float]:
    """Length, number of vowels and number of spaces, halved: exact in single precision."""
    counts = [len(text), sum(letter in "aeiou" for letter in text), text.count(" ")]
    return [count / 2 for count in counts][:dimensions]


class Handler(BaseHTTPRequestHandler):
    """Lists one model, and embeds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "test"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        vectors = [vector_of(text, asked.get("dimensions") or 3) for text in texts]
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, asked.get("encoding_format"))}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        self._answer({"id": "embd-1", "object": "list", "model": asked["model"], "data": data, "usage": usage})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


def _written(vector: list[float], encoding: str | None) -> Any:
    if encoding != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


@contextmanager
def embedding_server() -> Iterator[str]:
    """The address of a running server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
