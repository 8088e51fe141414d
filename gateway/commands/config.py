"""`alignway config show|check`."""

from typing import Any

import typer
from pydantic import BaseModel

from gateway.commands.configuration import load_settings
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.settings import Settings

app = typer.Typer(help="Settings: show them all with what they mean, or check a file.", no_args_is_help=True)

SECRETS: dict[str, Any] = {
    "admin_key": True,
    "notify": {"urls": True, "targets": {"__all__": {"url", "secret"}}},
    "webhooks": {"secret"},
}


@app.command("show")
def show(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Every setting, its value here and what it means. Secrets are not shown."""
    settings = load_settings(config, {"data_dir": data_dir})
    if as_json:
        print_json(settings.model_dump(mode="json", exclude=SECRETS))
        return
    _show(settings, "")


@app.command("check")
def check(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Say whether the settings are right."""
    load_settings(config, {"data_dir": data_dir})
    if as_json:
        print_json({"valid": True})
    else:
        console.print("The settings are right.")


def _show(section: BaseModel, prefix: str) -> None:
    for name, field in type(section).model_fields.items():
        value: Any = getattr(section, name)
        if isinstance(value, BaseModel):
            _show(value, f"{prefix}{name}.")
        elif isinstance(section, Settings) and name == "models":
            for number, model in enumerate(value):
                _show(model, f"models[{number}].")
        else:
            shown = "(set)" if name in ("admin_key", "secret", "urls") and value else value
            console.print(f"[bold]{prefix}{name}[/] = {shown!r}\n    {field.description or ''}", markup=True)
