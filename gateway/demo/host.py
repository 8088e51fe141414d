"""An Alignway of one's own: `alignway up` as a child, on a free port, stopped at the end."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo.service import DemoFailed
from gateway.supervisor import python_module

STOP_SECONDS = 60.0


@contextmanager
def hosted(data_dir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Run `alignway up` on `data_dir`; yields what it prints when ready: `url`, `aliases`, `key`.

    Raises `DemoFailed` with its last words if it does not come up.
    """
    log_path = data_dir / "up.log"
    command = python_module("gateway", "up", "--data-dir", str(data_dir), "--port", "0", "--json", *flags)
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **(environment or {})}
        )
    try:
        yield _announced(process, log_path)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _announced(process: subprocess.Popen[str], log_path: Path) -> dict[str, Any]:
    output = ""
    for line in process.stdout or ():
        output += line
        if line.startswith("}"):
            found: dict[str, Any] = json.loads(output)
            return found
    tail = "\n".join(log_path.read_text().splitlines()[-5:])
    raise DemoFailed(f"Alignway did not start; see {log_path.parent / 'logs'}.\n{tail}")
