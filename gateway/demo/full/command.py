"""`alignway ...` as a person would type it, in a process of its own; what it prints with `--json` comes back."""

import asyncio
import json
from pathlib import Path
from typing import Any

from gateway.demo.service import DemoFailed
from gateway.supervisor import python_module

COMMAND_SECONDS = 300.0


class Shell:
    """Types commands for one data directory and settings file."""

    def __init__(self, data_dir: Path, config: Path) -> None:
        self._where = ("--data-dir", str(data_dir), "--config", str(config))
        self.data_dir = data_dir

    def typed(self, *words: str) -> str:
        """The command as a person would type it."""
        return " ".join(("alignway", *words, *self._where))

    async def run(self, *words: str) -> dict[str, Any]:
        """Run a command on the data directory; returns the JSON it printed. Raises `DemoFailed` with its last words."""
        return await _run(*words, *self._where)

    async def model_folder(self, model: str) -> Path:
        """Where a base model lies on this machine."""
        return Path(str((await _run("models", "path", model))["folder"]))


async def _run(*words: str) -> dict[str, Any]:
    command = python_module("gateway", *words, "--json")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            printed, said = await process.communicate()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise DemoFailed(f"`alignway {' '.join(words)}` did not end within {COMMAND_SECONDS:g} s") from error
        raise
    if process.returncode != 0:
        raise DemoFailed(f"`alignway {' '.join(words)}` failed: {said.decode(errors='replace').strip()[-400:]}")
    found: dict[str, Any] = json.loads(printed)
    return found
