"""Engines that somebody else runs, and replicas that come and go with the settings."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from gateway.bootstrap import ResolvedModel
from gateway.commands.serving import prepare, resolve_model
from gateway.errors import StartupFailed
from gateway.settings import EngineSettings, ModelSettings, Settings
from gateway.storage.database import Database
from gateway.storage.tables import Replica
from tests.stack import base_ref


@contextmanager
def engine_that_lists(*names: str) -> Iterator[tuple[str, list[str]]]:
    """An OpenAI-compatible server, as far as its list of models goes; the list can be changed."""
    listed = list(names)

    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(
                {"object": "list", "data": [{"id": name, "owned_by": "lmdeploy"} for name in listed]}
            ).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", listed
    server.shutdown()
    server.server_close()


@pytest.fixture
def foreign_engine() -> Iterator[tuple[str, list[str]]]:
    with engine_that_lists("qwen2.5-7b") as made:
        yield made


def by_url(url: str, model: str | None = None) -> ModelSettings:
    return ModelSettings(engine=EngineSettings(kind="url", url=url, model=model))


def test_the_only_model_of_a_foreign_engine_is_found(foreign_engine: tuple[str, list[str]]) -> None:
    resolved = resolve_model(by_url(foreign_engine[0]))
    assert (resolved.weights_name, resolved.folder, resolved.reference["model"]) == ("qwen2.5-7b", "", "qwen2.5-7b")


def test_of_several_models_one_has_to_be_named(foreign_engine: tuple[str, list[str]]) -> None:
    url, names = foreign_engine
    names.append("another")
    with pytest.raises(StartupFailed, match=r"engine\.model"):
        resolve_model(by_url(url))
    assert resolve_model(by_url(url, "another")).weights_name == "another"


def test_engines_of_one_alias_serve_one_model_and_one_that_is_down_is_taken_to(
    foreign_engine: tuple[str, list[str]],
) -> None:
    url = foreign_engine[0]
    some = EngineSettings(kind="url", urls=("http://127.0.0.1:9", url))
    assert resolve_model(ModelSettings(engine=some)).weights_name == "qwen2.5-7b"
    with engine_that_lists("llama") as (other, _):
        both = EngineSettings(kind="url", urls=(url, other))
        with pytest.raises(StartupFailed, match="must serve the same model"):
            resolve_model(ModelSettings(engine=both))
        assert resolve_model(ModelSettings(engine=both.model_copy(update={"model": "x"}))).weights_name == "x"


def test_a_foreign_engine_is_spoken_to_as_what_it_says_it_is(foreign_engine: tuple[str, list[str]]) -> None:
    url, names = foreign_engine
    assert resolve_model(by_url(url)).engine_kind == "lmdeploy"
    assert resolve_model(by_url(url, names[0])).engine_kind == "lmdeploy"


def test_what_the_settings_say_of_a_foreign_engine_counts_more(foreign_engine: tuple[str, list[str]]) -> None:
    engine = EngineSettings(kind="url", url=foreign_engine[0], dialect="vllm")
    assert resolve_model(ModelSettings(engine=engine)).engine_kind == "vllm"


def test_a_named_model_needs_no_answer_at_start() -> None:
    resolved = resolve_model(by_url("http://127.0.0.1:9", "qwen2.5-7b"))
    assert (resolved.weights_name, resolved.engine_kind) == ("qwen2.5-7b", None)


def test_the_dialect_of_our_own_engines_is_not_to_be_set() -> None:
    with pytest.raises(ValidationError, match=r"engine\.dialect goes with"):
        EngineSettings(kind="lmdeploy", dialect="vllm")


def test_an_engine_that_does_not_answer_is_said() -> None:
    with pytest.raises(StartupFailed, match="Is the engine up"):
        resolve_model(by_url("http://127.0.0.1:9"))


async def test_each_address_is_a_replica_and_what_was_known_of_one_that_moved_is_overwritten(
    tmp_path: Path, database_url: str
) -> None:
    resolved = {"assistant": ResolvedModel("", base_ref().model_dump(), "qwen2.5-7b")}
    for urls in (["http://a:1", "http://b:1/", "http://c:1"], ["http://c:1"]):
        models = [{"engine": {"kind": "url", "urls": urls}}]
        settings = Settings.model_validate(
            {"data_dir": tmp_path, "admin_key": "k" * 20, "database": {"url": database_url}, "models": models}
        )
        await prepare(settings, resolved)
        database = Database(database_url)
        async with database.read() as session:
            rows = (await session.scalars(select(Replica).order_by(Replica.id))).all()
        await database.close()
        assert [row.url for row in rows] == [url.rstrip("/") for url in urls]
        assert {(row.weights_name, row.managed, row.phase) for row in rows} == {("qwen2.5-7b", False, "ready")}


async def test_replicas_that_left_the_settings_leave_the_pool(tmp_path: Path, database_url: str) -> None:
    resolved = {"assistant": ResolvedModel(str(tmp_path), base_ref().model_dump())}
    for count, expected in ((3, ["assistant-1", "assistant-2", "assistant-3"]), (1, ["assistant-1"])):
        models = [{"replicas": count, "engine": {"kind": "scripted"}}]
        settings = Settings.model_validate(
            {"data_dir": tmp_path, "admin_key": "k" * 20, "database": {"url": database_url}, "models": models}
        )
        await prepare(settings, resolved)
        database = Database(database_url)
        async with database.read() as session:
            assert list(await session.scalars(select(Replica.id).order_by(Replica.id))) == expected
        await database.close()
