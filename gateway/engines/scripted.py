"""A deterministic engine: vLLM's routes, as far as Alignway uses them, over canned words. For tests and laptops.

Every answer says which weights or adapter wrote it: its first word, and every fifth one after, is the marker of the
folder at work at that very moment (the text of `marker.txt` in it, else the folder's name). An answer that two sets
of weights wrote therefore shows two markers. The other words follow from the prompt.

A prompt may ask for trouble: `[words:200]` sets the answer's length, `[die]` ends the process in mid-answer,
`[stall]` never goes on after the first word.

    python -m gateway.engines.scripted --model FOLDER --port 8000 [--chunk-seconds 0.01]
"""

import argparse
import sys
from pathlib import Path

from aiohttp import web

from gateway.engines.protocol import Launch
from gateway.engines.scripted_engine import Folder, Refusal, ScriptedEngine
from gateway.engines.scripted_routes import build_app
from gateway.engines.vllm import VllmControl
from gateway.settings import EngineSettings

SHUTDOWN_SECONDS = 1.0


class ScriptedLauncher:
    """Starts the scripted engine with the Python that runs Alignway."""

    def launch(self, settings: EngineSettings, model: Path, port: int, devices: str | None) -> Launch:
        """The command; `devices` mean nothing to it."""
        command = (sys.executable, "-m", "gateway.engines.scripted", "--model", str(model), "--port", str(port))
        return Launch((*command, *settings.args), settings.environment)


class ScriptedControl(VllmControl):
    """The scripted engine takes vLLM's control calls."""


def main(arguments: list[str] | None = None) -> None:
    """Serve on loopback until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m gateway.engines.scripted")
    parser.add_argument("--model", type=Path, required=True, help="folder of the weights; config.json must be in it")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunk-seconds", type=float, default=0.01, help="delay before each word")
    options = parser.parse_args(arguments)
    try:
        engine = ScriptedEngine(Folder.read(options.model, needs="config.json"), options.chunk_seconds)
    except Refusal as refusal:
        sys.exit(refusal.message)
    web.run_app(
        build_app(engine),
        host="127.0.0.1",
        port=options.port,
        print=None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
