"""What Alignway asks of any engine: the data plane (gateway workers) and the control plane (the engine's agent)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.settings import EngineSettings


@dataclass(frozen=True)
class Launch:
    """How to start an engine process."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class EngineLauncher(Protocol):
    """Builds the command that starts an engine on loopback."""

    def launch(self, settings: EngineSettings, model: Path, port: int, devices: str | None) -> Launch:
        """The command that serves the full weights in `model` under `WEIGHTS_NAME` on 127.0.0.1:`port`."""
        ...


class EngineControl(Protocol):
    """Control calls to one running engine. Only its agent makes them. Every method raises `UpstreamError`."""

    @property
    def max_adapter_rank(self) -> int:
        """Largest adapter that can be loaded at run time; 0: none."""
        ...

    async def probe(self, name: str) -> None:
        """Generate one real token under the model name `name`: the only proof that an engine serves."""
        ...

    async def work_done(self) -> str:
        """What the engine counts of its work; the same text again: it did nothing. Empty: it does not tell."""
        ...

    async def load_adapter(self, release_id: str, folder: Path) -> None:
        """Load an adapter under its release's engine name, beside whatever is served."""
        ...

    async def unload_adapter(self, release_id: str) -> None:
        """Forget an adapter. Its open streams finish; nobody may be sending new requests to it."""
        ...

    async def replace_weights(self, release_id: str, folder: Path) -> None:
        """Exchange the full weights for those in `folder`, emptying every cache.

        Only behind the gateway's fence: nothing in flight, nobody dispatching. Raises `SwapFailed` if the engine
        does not come out of it clean; it must then be restarted.
        """
        ...

    async def held_weights(self) -> str | None:
        """The release id last passed to `replace_weights` or `mark_weights`; None if the engine cannot tell."""
        ...

    async def mark_weights(self, release_id: str) -> None:
        """Tell the engine which release the weights it was started with belong to."""
        ...

    async def close(self) -> None:
        """Close connections; the engine runs on."""
        ...
