"""`alignway doctor`: what is in the way of serving, on this machine or in an engine somebody else runs."""

import asyncio
import shutil
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import psutil
import typer

from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.engines.examine import Finding, examine_engine
from gateway.engines.vllm import find_vllm
from gateway.errors import StartupFailed
from gateway.settings import ModelSettings, Settings

NEEDED_PYTHON = (3, 11)
NEEDED_DISK_BYTES = 5 << 30
NEEDED_MEMORY_BYTES = 4 << 30
SIGNS = {"ok": "[green]ok[/]", "missing": "[red]missing[/]", "warning": "[yellow]warning[/]"}


def doctor(
    engine: Annotated[
        str | None, typer.Option(help="Address of a running engine, such as http://127.0.0.1:8000.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is missing, and what to do about it. Ends with 0 only if nothing is."""
    if engine is not None:
        findings = asyncio.run(examine_engine(engine))
    else:
        findings = examine_machine(load_settings(config, {"data_dir": data_dir}))
    fit = all(finding.status != "missing" for finding in findings)
    if as_json:
        print_json({"ok": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings, fit, engine)
    raise typer.Exit(0 if fit else 1)


def examine_machine(settings: Settings) -> list[Finding]:
    """Look at everything `alignway up` needs of this machine."""
    return [
        _python(),
        *(_engine(model) for model in settings.models),
        _disk(settings.data_dir),
        _memory(),
        _port(settings.server.host, settings.server.port),
    ]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < NEEDED_PYTHON:
        return Finding("python", "missing", f"this is Python {version}", "run Alignway with Python 3.11 or newer")
    return Finding("python", "ok", version)


def _engine(model: ModelSettings) -> Finding:
    check, engine = f"engine of {model.alias}", model.engine
    if engine.addresses:
        remedy = f"look at it with: alignway doctor --engine {engine.addresses[0]}"
        return Finding(check, "ok", f"run by somebody else at {', '.join(engine.addresses)}", remedy)
    if engine.kind != "vllm":
        return Finding(check, "ok", engine.kind)
    try:
        install = find_vllm(engine.python)
    except StartupFailed as error:
        return Finding(check, "missing", error.message, "pip install 'alignway[engine-gpu]', or [engine-cpu]")
    return Finding(check, "ok", f"vLLM {install.version}{', for CPUs' if install.cpu else ''}")


def _disk(data_dir: Path) -> Finding:
    folder = next(parent for parent in (data_dir.resolve(), *data_dir.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{_gib(free)} free at {folder}"
    if free < NEEDED_DISK_BYTES:
        return Finding("disk", "warning", detail, "each release of a model takes as much as its weights; --data-dir")
    return Finding("disk", "ok", detail)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    if free < NEEDED_MEMORY_BYTES:
        return Finding("memory", "warning", f"{_gib(free)} free", "the default model needs about 4 GiB")
    return Finding("memory", "ok", f"{_gib(free)} free")


def _port(host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"{host}:{port} cannot be listened on ({error.strerror})"
            return Finding("port", "missing", reason, "stop what listens there, or use --port")
    return Finding("port", "ok", f"{host}:{port} is free")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"


def _print(findings: list[Finding], fit: bool, engine: str | None) -> None:
    for finding in findings:
        console.print(f"{SIGNS[finding.status]:>20}  {finding.check}: ", end="")
        console.print(finding.detail, markup=False)
        if finding.remedy:
            console.print(f"{'':9}  -> {finding.remedy}", markup=False)
    if fit:
        console.print("\nNext: alignway up" + (f" --engine {engine}" if engine else ""))
