"""What an engine that somebody else started lacks for Alignway, and the flags that would give it."""

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from gateway.engines.calls import CallRefused, EngineCalls
from gateway.errors import UpstreamError

ABSENT = (404, 405)
NO_ADAPTER = "alignway-doctor"
"""A name and a folder that no engine has: asking to load it changes nothing."""
LORA_SWITCH = "start it with the environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
LORA_FLAGS = "start it with --enable-lora --max-lora-rank 16 --max-loras 2"
DEV_SWITCH = "start it with the environment variable VLLM_SERVER_DEV_MODE=1"
BIND_FLAG = "start it with --host 127.0.0.1, or keep its port inside a private network"
OPEN_ROUTES = "its control routes (/collective_rpc, /pause, ...) obey anybody who reaches them, --api-key or not"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "missing", "warning"]
    detail: str
    remedy: str = ""


async def examine_engine(url: str) -> list[Finding]:
    """Look at everything Alignway needs of the engine at `url`. Changes nothing there."""
    calls = EngineCalls(url)
    try:
        reachable = await _reachable(calls)
        if reachable.status != "ok":
            return [reachable]
        return [reachable, await _generates(calls), await _adapters(calls), *await _control(calls), _address(url)]
    finally:
        await calls.close()


async def _models(calls: EngineCalls) -> list[dict[str, Any]]:
    answer = await calls.get("/v1/models", timeout_seconds=10)
    models = answer.get("data") if isinstance(answer, dict) else None
    if not models:
        raise UpstreamError("it answers /v1/models with no list of models")
    return list(models)


async def _reachable(calls: EngineCalls) -> Finding:
    try:
        models = await _models(calls)
    except UpstreamError as error:
        return Finding("reachable", "missing", error.message, "start the engine, or correct the address (no /v1 in it)")
    return Finding("reachable", "ok", "serves " + ", ".join(str(model.get("id")) for model in models[:5]))


async def _generates(calls: EngineCalls) -> Finding:
    name = (await _models(calls))[0].get("id", "")
    try:
        await calls.generate_one(name)
    except UpstreamError as error:
        return Finding(
            "generates", "missing", error.message, "the engine's log says why; a health check proves nothing"
        )
    return Finding("generates", "ok", f"one token, under {name}")


async def _adapters(calls: EngineCalls) -> Finding:
    body = {"lora_name": NO_ADAPTER, "lora_path": f"/nonexistent/{NO_ADAPTER}"}
    try:
        await calls.post("/v1/load_lora_adapter", body)
    except CallRefused as error:
        if error.answered in ABSENT and NO_ADAPTER not in error.message:
            return Finding(
                "adapters", "missing", "it has no route to load adapters", f"{LORA_SWITCH}, and {LORA_FLAGS}"
            )
        if "not enabled" in error.message:
            return Finding("adapters", "missing", "it was started without LoRA", LORA_FLAGS)
    except UpstreamError as error:
        return Finding("adapters", "missing", error.message, LORA_SWITCH)
    return Finding("adapters", "ok", "can be loaded at run time")


async def _control(calls: EngineCalls) -> list[Finding]:
    findings = []
    for check, path, purpose in (
        ("pause", "/is_paused", "pause and reload weights"),
        ("weight version", "/weight_info", "tell which weights it holds"),
    ):
        try:
            await calls.get(path)
            findings.append(Finding(check, "ok", f"can {purpose}"))
        except UpstreamError as error:
            absent = isinstance(error, CallRefused) and error.answered in ABSENT
            detail = f"it has no route to {purpose}" if absent else error.message
            findings.append(Finding(check, "missing", detail, DEV_SWITCH))
    return findings


def _address(url: str) -> Finding:
    parts = urlsplit(url)
    if not _is_loopback(parts.hostname or ""):
        return Finding("address", "warning", f"{parts.hostname} is not loopback: {OPEN_ROUTES}", BIND_FLAG)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if any(not _is_loopback(address) for address in _listening_addresses(port)):
        return Finding("address", "warning", f"it listens on other interfaces too: {OPEN_ROUTES}", BIND_FLAG)
    return Finding("address", "ok", "loopback alone")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening_addresses(port: int) -> list[str]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return []  # some systems show other people's sockets to root only
    return [found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN and found.laddr.port == port]
