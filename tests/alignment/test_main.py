"""The aligner as a process: it ends when told, when its parent dies, and when there is nothing to do."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.storage.database import Database
from gateway.storage.migrate import migrate


@pytest.fixture
def url(sqlite_url: str) -> str:
    async def prepare() -> None:
        database = Database(sqlite_url)
        await migrate(database)
        await database.close()

    asyncio.run(prepare())
    return sqlite_url


def aligner(url: str, store: Path, *words: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "alignment", "--database", url, "--store", str(store), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_once_ends_when_no_run_waits(url: str, tmp_path: Path) -> None:
    assert aligner(url, tmp_path, "--once").wait(timeout=60) == 0


def test_sigterm_ends_it_with_status_0(url: str, tmp_path: Path) -> None:
    process = aligner(url, tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=4)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_with_a_lifeline_it_ends_with_its_parent(url: str, tmp_path: Path) -> None:
    process = aligner(url, tmp_path, "--lifeline", "--poll-seconds", "0.1")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_without_a_database_it_says_how_to_name_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alignment", "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env={"PATH": "", "HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "name the database by --database URL or by the variable ALIGNWAY_DATABASE_URL" in done.stderr


def test_the_aligner_itself_never_loads_torch() -> None:
    code = "import sys, alignment.__main__; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
