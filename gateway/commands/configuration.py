"""Reads settings, once, at the edge: `alignway.toml`, then `ALIGNWAY_SECTION__FIELD` variables, then flags."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.errors import StartupFailed
from gateway.settings import Settings
from gateway.telemetry.traces import require_packages

PREFIX = "ALIGNWAY_"
DEFAULT_FILE = Path("alignway.toml")
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own variable; `telemetry.otlp_endpoint`, wherever it is set, wins over it."""
OWN_NAMES = frozenset(name.upper() for name in Settings.model_fields)
"""A variable without `__` is a setting only under one of these: `ALIGNWAY_API_KEY` and the like are not."""


def load_settings(
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from all sources; a flag is a dotted name such as `server.port`, and None counts as not given.

    Raises `StartupFailed` that names the setting, where it came from and what is wrong with it.
    """
    merged = _from_file(config)
    environment = os.environ if environment is None else environment
    _merge(merged, _from_environment(environment))
    for name, value in (flags or {}).items():
        if value is not None:
            _set(merged, name.split("."), value)
    if environment.get(OTLP_ENDPOINT):
        _merge(merged, {"telemetry": {"otlp_endpoint": environment[OTLP_ENDPOINT]} | merged.get("telemetry", {})})
    return checked_settings(merged)


def checked_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from plain values. Raises `StartupFailed` that names what is wrong."""
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise StartupFailed(_explain(error), code="invalid_settings") from error
    if settings.telemetry.otlp_endpoint is not None:
        require_packages()
    return settings


def _from_file(config: Path | None) -> dict[str, Any]:
    path = config or DEFAULT_FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if config is None:
            return {}
        raise StartupFailed(f"There is no settings file {path}.", code="invalid_settings") from error
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise StartupFailed(f"{path} cannot be read: {error}.", code="invalid_settings") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in environment.items():
        setting = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and ("__" in setting or setting in OWN_NAMES):
            _set(found, setting.lower().split("__"), _value(text))
    return found


def _value(text: str) -> Any:
    if not text.startswith(("[", "{")):
        return text  # pydantic turns "8080" and "true" into what the field wants
    try:
        return json.loads(text)
    except ValueError:
        return text


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _explain(error: ValidationError) -> str:
    lines = []
    for mistake in error.errors(include_url=False):
        place = ".".join(str(part) for part in mistake["loc"]) or "settings"
        unknown = mistake["type"] == "extra_forbidden"
        lines.append(f"{place}: there is no such setting" if unknown else f"{place}: {mistake['msg']}")
    return "The settings are not right. " + "; ".join(lines) + ". `alignway config show` lists every setting."
