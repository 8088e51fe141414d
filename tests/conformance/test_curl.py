"""What goes over the wire, byte for byte, as curl sees it."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.conformance.conftest import Served
from tests.conformance.strict import check, check_error

JSON = ("-H", "content-type: application/json")


@dataclass(frozen=True)
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Curl:
    """curl, pointed at the gateway."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self._folder = served, folder

    def __call__(self, path: str, *arguments: str, body: Any = None, key: str | None = "") -> Answer:
        head, data = self._folder / "head", self._folder / "data"
        command = ["curl", "-sS", "--no-buffer", "-D", str(head), self.served.url + path, *arguments]
        if key is not None:
            command += ["-H", f"authorization: Bearer {key or self.served.key}"]
        if body is not None:
            data.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
            command += ["--data-binary", f"@{data}"]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        status, *lines = head.read_text().strip().split("\n\n")[-1].splitlines()
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        return Answer(int(status.split()[1]), {name.lower(): value for name, value in headers.items()}, done.stdout)

    def chat(self, **changes: Any) -> dict[str, Any]:
        """A short request."""
        messages = [{"role": "user", "content": "Name three rivers."}]
        return {"model": self.served.model, "messages": messages, "temperature": 0, "max_tokens": 8} | changes


@pytest.fixture
def curl(served: Served, tmp_path: Path) -> Curl:
    """The test is skipped without curl."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    return Curl(served, tmp_path)


def test_a_whole_reply(curl: Curl) -> None:
    answer = curl("/chat/completions", *JSON, body=curl.chat())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["x-request-id"]
    check(ChatCompletion, answer.json())


def test_a_stream_of_events(curl: Curl) -> None:
    answer = curl("/chat/completions", *JSON, body=curl.chat(stream=True, stream_options={"include_usage": True}))
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "no-cache" in answer.headers["cache-control"]
    assert answer.headers["x-request-id"]
    assert "content-length" not in answer.headers
    assert answer.body.endswith(b"}\n\ndata: [DONE]\n\n")
    *events, done, rest = answer.body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert len(events) > 5
    for event in events:
        assert event.startswith(b"data: {")
        assert b"\n" not in event
        check(ChatCompletionChunk, json.loads(event.removeprefix(b"data: ")))


def test_text_goes_and_comes_as_utf_8(curl: Curl) -> None:
    messages = [{"role": "user", "content": "Répète : « 河 🌊 »"}]
    raw = json.dumps(curl.chat(messages=messages), ensure_ascii=False).encode()
    escaped = json.dumps(curl.chat(messages=messages)).encode()
    first, second = (curl("/chat/completions", *JSON, body=body).json() for body in (raw, escaped))
    assert first["choices"] == second["choices"]
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]


def test_a_connection_is_used_again(curl: Curl) -> None:
    asked = curl("/models", "--next", "-sS", "-w", "%{num_connects}", "-H", f"authorization: Bearer {curl.served.key}",
                 curl.served.url + "/models")  # fmt: skip
    assert asked.body.endswith(b"}0")


def test_json_is_taken_for_what_curl_calls_a_form(curl: Curl) -> None:
    assert curl("/chat/completions", body=curl.chat()).status == 200


def test_a_body_of_unknown_length_is_taken(curl: Curl) -> None:
    answer = curl("/chat/completions", *JSON, "-H", "transfer-encoding: chunked", body=curl.chat())
    assert answer.status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_without_a_good_key(curl: Curl, key: str | None, stream: bool) -> None:
    answer = curl("/chat/completions", *JSON, body=curl.chat(stream=stream), key=key)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    check_error(answer.json())


@pytest.mark.parametrize(
    ("path", "arguments", "body", "status"),
    [
        ("/chat/completions", JSON, b"{", 400),
        ("/chat/completions", JSON, b"[]", 400),
        ("/chat/completions", JSON, b"", 400),
        ("/chat/completions", JSON, b"\xff", 400),
        ("/chat/completions", ("-H", "content-type: text/plain"), b"{}", 415),
        ("/chat/completions", (), b"model=assistant", 400),
        ("/chat/completions", (*JSON, "-H", "content-encoding: gzip"), b"{}", 415),
        ("/chat/completions", (*JSON, "-X", "PUT"), b"{}", 405),
        ("/models", (*JSON, "-X", "DELETE"), b"{}", 405),
        ("/chat/completions", JSON, b"x" * (5 << 20), 413),
        ("/nowhere", JSON, b"{}", 404),
        ("/models/nothing", (), None, 404),
        ("/models", ("-H", "x-long: " + "x" * (20 << 10)), None, 431),
        ("/chat/completions", (*JSON, "-H", "x-long: " + "x" * (20 << 10)), b"{}", 431),
    ],
)
def test_whatever_is_wrong_is_told_in_the_envelope(
    curl: Curl, path: str, arguments: tuple[str, ...], body: bytes | None, status: int
) -> None:
    answer = curl(path, *arguments, body=body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    check_error(answer.json())
    if status == 405:
        assert answer.headers["allow"]


def test_errors_are_told_before_a_stream_begins(curl: Curl) -> None:
    answer = curl("/chat/completions", *JSON, body=curl.chat(model="gpt-unknown", stream=True))
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    check_error(answer.json())
