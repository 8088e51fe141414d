"""`alignway notify test`: what an operator types and gets."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.commands.config import app as config
from gateway.commands.notify import app
from gateway.errors import AlignwayError, InvalidRequest
from tests.gateway.notify.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver in a thread of its own: the command has an event loop of its own."""
    receiver, loop = Receiver(), asyncio.new_event_loop()
    runner = loop.run_until_complete(receiver.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield receiver
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


def run(folder: Path, *words: str, refused: bool = False, command: Any = app) -> str:
    done = CliRunner().invoke(command, [*words, "--config", str(folder / "alignway.toml")])
    if done.exception is not None and not (refused and isinstance(done.exception, AlignwayError)):
        raise done.exception
    return done.stdout


def test_every_target_says_whether_it_took_the_message(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "alignway.toml").write_text(
        f'[notify]\nurls = ["{receiver.url}/a-secret-hook"]\n'
        f'[[notify.targets]]\nname = "team"\nkind = "feishu"\nurl = "{receiver.url}/b-secret-hook"\n'
        f'secret = "SEC-val"\n'
    )
    receiver.answers = [(200, '{"code": 0}')]
    rows = json.loads(run(tmp_path, "test", "--json"))
    assert [(row["kind"], row["taken"], row["answer"]) for row in rows] == [
        ("webhook", True, '200 {"code": 0}'),
        ("feishu", True, '200 {"code": 0}'),
    ]
    assert sorted(receiver.paths) == ["/a-secret-hook", "/b-secret-hook"]
    receiver.answers = [(200, '{"code": 19021, "msg": "sign match fail"}')]
    with pytest.raises(AlignwayError, match="team did not take the message"):
        CliRunner().invoke(app, ["test", "--config", str(tmp_path / "alignway.toml")], catch_exceptions=False)
    told = run(tmp_path, "test", refused=True)
    assert "team (feishu): refused" in " ".join(told.split())
    shown = run(tmp_path, "show", command=config) + run(tmp_path, "show", "--json", command=config)
    assert "team" in shown
    assert "secret-hook" not in told + shown
    assert "SEC-val" not in told + shown


def test_without_a_target_it_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "alignway.toml").write_text("")
    with pytest.raises(InvalidRequest, match=r"notify\.urls"):
        run(tmp_path, "test")
