"""The bridge from Open WebUI: each rating becomes its votes once, whatever happens in between."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.openwebui import bridge
from tests.gateway.formats.shapes import rating

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "我每天应该喝多少水?"}]
GOOD, BAD = "大约两升,天热时更多。", "水是一种液体。"


class Servers:
    """Open WebUI with its export, and Alignway's feedback routes, on one loopback port."""

    def __init__(self) -> None:
        self.ratings: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.same_vote = False
        self.unknown_contents: set[str] = set()
        self.asked_with: list[str | None] = []
        servers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/api/v1/evaluations/feedbacks/all/export"
                servers.asked_with.append(self.headers["Authorization"])
                self._answer(200, servers.ratings)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = json.dumps(body, ensure_ascii=False)
                if any(content in text for content in servers.unknown_contents):
                    self._answer(404, {"error": {"message": "unknown", "code": "completion_not_stored"}})
                    return
                servers.bodies.append(body)
                own = f"fb_{body['type']}_{body['external_id']}"
                self._answer(201, {"id": "fb_same" if servers.same_vote else own})

            def do_DELETE(self) -> None:
                servers.deleted.append(self.path.rpartition("/")[2])
                self._answer(200, {})

            def _answer(self, status: int, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    thread = threading.Thread(target=servers.server.serve_forever)
    thread.start()
    yield servers
    servers.server.shutdown()
    thread.join()
    servers.server.server_close()


def run(servers: Servers, folder: Path, capsys: pytest.CaptureFixture[str], *origin: str) -> dict[str, int]:
    origin = origin or ("--webui", servers.url, "--webui-token", "token-1")
    state = str(folder / "state.json")
    bridge.main([*origin, "--alignway", f"{servers.url}/v1", "--key", "sk-1", "--state", state])
    return dict(json.loads(capsys.readouterr().out))


def target(content: str) -> dict[str, Any]:
    return {"match": {"messages": QUESTION, "content": content}}


def test_a_thumb_among_siblings_is_a_preference_by_its_person(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings = [rating()]
    assert run(servers, tmp_path, capsys) == {"sent": 1}
    assert servers.asked_with == ["Bearer token-1"]
    assert servers.bodies == [
        {
            "type": "preference",
            "rater": {"id": "user-1", "kind": "end_user"},
            "external_id": "feedback-a1",
            "tags": ["accurate_information", "health"],
            "chosen": target(GOOD),
            "rejected": [target(BAD)],
        }
    ]


def test_a_thumb_on_a_single_answer_is_a_rating(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings = [rating(thumb=-1, siblings=())]
    run(servers, tmp_path, capsys)
    (body,) = servers.bodies
    assert (body["type"], body["name"], body["value"], body["target"]) == ("rating", "thumbs", False, target(GOOD))


def test_what_was_sent_is_not_sent_again_until_it_changes(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings = [rating()]
    run(servers, tmp_path, capsys)
    assert run(servers, tmp_path, capsys) == {"unchanged": 1}
    assert len(servers.bodies) == 1
    servers.ratings = [rating(thumb=-1) | {"updated_at": 1795000009}]
    assert run(servers, tmp_path, capsys) == {"sent": 1}
    assert (servers.bodies[1]["chosen"], servers.bodies[1]["rejected"]) == (target(BAD), [target(GOOD)])
    assert servers.deleted == []


def test_a_rating_that_was_taken_back_or_deleted_retracts_its_vote(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings = [rating(), rating("a2", -1, siblings=("a2",)) | {"id": "second"}]
    run(servers, tmp_path, capsys)
    servers.ratings = [rating(thumb=None) | {"updated_at": 1795000009}]
    assert run(servers, tmp_path, capsys) == {"without_thumb": 1, "retracted": 1}
    assert servers.deleted == ["fb_preference_feedback-a1", "fb_preference_second"]


def test_an_answer_that_alignway_does_not_know_is_looked_for_again_next_time(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings, servers.unknown_contents = [rating()], {BAD}
    assert run(servers, tmp_path, capsys) == {"unknown": 1}
    servers.unknown_contents = set()
    assert run(servers, tmp_path, capsys) == {"sent": 1}


def test_a_chat_that_cannot_be_read_stops_nothing(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.ratings = [rating() | {"id": "broken", "snapshot": None}, rating()]
    assert run(servers, tmp_path, capsys) == {"sent": 1, "unreadable": 1}


def test_an_export_file_does_as_well(servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "feedback-history-export.json"
    path.write_text(json.dumps([rating()], ensure_ascii=False), encoding="utf-8")
    assert run(servers, tmp_path, capsys, "--export", str(path)) == {"sent": 1}
    assert servers.asked_with == []


def test_a_vote_behind_two_ratings_is_retracted_with_the_last_of_them(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [rating() | {"id": "one"}, rating("a2", -1) | {"id": "two"}]
    servers.ratings, servers.same_vote = both, True
    run(servers, tmp_path, capsys)
    servers.ratings = both[1:]
    assert run(servers, tmp_path, capsys) == {"unchanged": 1, "retracted": 1}
    assert servers.deleted == []
    servers.ratings = []
    run(servers, tmp_path, capsys)
    assert servers.deleted == ["fb_same"]
