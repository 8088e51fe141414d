"""Which adapter goes with `engine.kind`. The only place that knows every engine Alignway can run."""

from gateway.engines.lmdeploy import LmdeployControl, LmdeployLauncher, lmdeploy_takes_weights
from gateway.engines.protocol import EngineControl, EngineLauncher
from gateway.engines.scripted import ScriptedControl, ScriptedLauncher
from gateway.engines.vllm import VllmControl, VllmLauncher
from gateway.errors import StartupFailed
from gateway.settings import EngineSettings


def launcher_for(settings: EngineSettings) -> EngineLauncher:
    """How to start an engine of this kind; raises `StartupFailed` for one that is not ours to start."""
    match settings.kind:
        case "vllm":
            return VllmLauncher()
        case "lmdeploy":
            return LmdeployLauncher()
        case "scripted":
            return ScriptedLauncher()
        case "url":
            raise StartupFailed(f"the engine at {settings.url} is run by somebody else; it needs no agent")


def takes_weights(settings: EngineSettings) -> bool:
    """Whether an engine of this kind exchanges its full weights while it runs."""
    able = settings.kind != "lmdeploy" or lmdeploy_takes_weights(settings)
    return able and settings.exchange == "auto"


def control_for(settings: EngineSettings, url: str, devices: str | None) -> EngineControl:
    """Control calls to an engine of this kind that listens at `url`."""
    if settings.kind == "lmdeploy":
        return LmdeployControl(url, settings, devices)
    control = ScriptedControl if settings.kind == "scripted" else VllmControl
    return control(url, settings.max_adapter_rank)
