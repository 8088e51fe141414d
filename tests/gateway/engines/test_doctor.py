"""The doctor names what is missing, with the flag that mends it, and ends with 0 only if nothing is."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.commands.doctor import doctor

APP = typer.Typer()
APP.command()(doctor)
EVERYTHING = {
    "/v1/models": {"data": [{"id": "weights"}]},
    "/v1/completions": {"usage": {"completion_tokens": 1}},
    "/is_paused": {"is_paused": False},
    "/weight_info": {"weight_version": "default"},
}


class Engine(ThreadingHTTPServer):
    """An engine that has some routes."""

    routes: dict[str, object]
    lora = (404, "The lora adapter 'alignway-doctor' cannot be found")


class Routes(BaseHTTPRequestHandler):
    """Answers from the engine's table."""

    server: Engine

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = 404, {"detail": "Not Found"}
        if self.path in self.server.routes:
            status, body = 200, self.server.routes[self.path]  # type: ignore[assignment]
        elif self.path == "/v1/load_lora_adapter":
            status, message = self.server.lora
            body = {"error": {"message": message}}  # type: ignore[dict-item]
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Silence."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with everything, on loopback."""
    server = Engine(("127.0.0.1", 0), Routes)
    server.routes = dict(EVERYTHING)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def examine(engine: Engine) -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(APP, ["--engine", f"http://127.0.0.1:{engine.server_port}", "--json"])
    return result.exit_code, {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}


def test_engine_with_everything_is_fit(engine: Engine) -> None:
    code, findings = examine(engine)
    assert code == 0
    assert {finding["status"] for finding in findings.values()} == {"ok"}


def test_missing_control_routes_name_the_development_switch(engine: Engine) -> None:
    del engine.routes["/is_paused"]
    code, findings = examine(engine)
    assert (code, findings["pause"]["status"]) == (1, "missing")
    assert "VLLM_SERVER_DEV_MODE=1" in findings["pause"]["remedy"]


@pytest.mark.parametrize(
    ("answer", "flag"),
    [
        ((404, "Not Found"), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ((500, "LoRA is not enabled. Use --enable-lora"), "--enable-lora --max-lora-rank 16"),
    ],
)
def test_missing_adapters_name_the_flag(engine: Engine, answer: tuple[int, str], flag: str) -> None:
    engine.lora = answer
    code, findings = examine(engine)
    assert (code, findings["adapters"]["status"]) == (1, "missing")
    assert flag in findings["adapters"]["remedy"]


def test_engine_that_answers_but_generates_nothing_is_unfit(engine: Engine) -> None:
    engine.routes["/v1/completions"] = {"usage": {"completion_tokens": 0}}
    code, findings = examine(engine)
    assert (code, findings["generates"]["status"]) == (1, "missing")


def test_engine_that_is_not_there_is_said_to_be_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = CliRunner().invoke(APP, ["--engine", url])
    assert result.exit_code == 1
    assert "cannot be reached" in result.stdout


def test_taken_port_is_found(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNWAY_SERVER__PORT", str(engine.server_port))
    result = CliRunner().invoke(APP, ["--data-dir", str(tmp_path), "--json"])
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert findings["port"]["status"] == "missing"
    assert findings["python"]["status"] == "ok"


def test_python_without_vllm_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNWAY_SERVER__PORT", "0")
    monkeypatch.setenv("ALIGNWAY_MODELS", json.dumps([{"engine": {"python": str(tmp_path / "none")}}]))
    result = CliRunner().invoke(APP, ["--data-dir", str(tmp_path), "--json"])
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert findings["engine of assistant"]["status"] == "missing"
    assert "engine.python" in findings["engine of assistant"]["detail"]
