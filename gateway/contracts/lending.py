"""Which engine of an alias can be borrowed for a training run: a pure rule. Engines stand in the order of their ids."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """A replica, as far as it matters here."""

    id: str
    managed: bool
    """Whether an agent can stop it and start it again."""
    serves: frozenset[str]
    """Releases that it answers with now; none while it is starting, down, or changing its weights."""
    devices: str | None = None
    """As CUDA takes them, such as `0` or `2,3`; None: whatever the engine chooses."""

    @property
    def device_names(self) -> tuple[str, ...]:
        """The same as `gateway/contracts/placement.py` names them."""
        return tuple(f"cuda:{name.strip()}" for name in self.devices.split(",")) if self.devices else ()


@dataclass(frozen=True)
class Spare:
    """An engine to borrow."""

    engine: Engine
    is_missed: bool
    """Whether the others do not serve all that the alias needs: nobody is answered while it is away."""


def spare_of(engines: Sequence[Engine], needed: frozenset[str]) -> Spare | None:
    """The last engine that the others can do without, or else the last there is; None where none can be stopped."""
    able = [engine for engine in engines if engine.managed and engine.serves]
    for engine in reversed(able):
        others = {release for other in engines if other.id != engine.id for release in other.serves}
        if needed <= others:
            return Spare(engine, is_missed=False)
    return Spare(able[-1], is_missed=True) if able else None
