"""The routing table: a snapshot of the desired and the actual state, with the look-ups dispatch needs made once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gateway.errors import ModelNotFound, WrongTask
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target, able


class Route:
    """One alias and its replicas."""

    def __init__(self, alias: AliasView, replicas: tuple[ReplicaView, ...]) -> None:
        self.alias = alias
        self.replicas = replicas
        self._able: dict[str, tuple[Target, ...]] = {}

    def able(self, release: ReleaseView) -> tuple[Target, ...]:
        """The replicas that serve the release by this table; worked out once."""
        targets = self._able.get(release.id)
        if targets is None:
            targets = self._able[release.id] = able(self.replicas, release)
        return targets


@dataclass(frozen=True)
class RoutingTable:
    """A snapshot of the desired and the actual state."""

    epoch: int = 0
    aliases: Mapping[str, AliasView] = field(default_factory=dict)
    releases: Mapping[str, ReleaseView] = field(default_factory=dict)
    """By id."""
    replicas: tuple[ReplicaView, ...] = ()

    def find(self, model: str, task: str = "chat") -> tuple[Route, ReleaseView | None]:
        """The route behind a model name, and the release if one was named outright.

        Raises `ModelNotFound`, or `WrongTask` for a model that does something else.
        """
        found = self._names.get(model)
        if found is not None:
            if found[0].alias.task != task:
                raise WrongTask(model, found[0].alias.task)
            return found
        known = ", ".join(sorted(self.aliases)) or "none yet"
        raise ModelNotFound(f"There is no model `{model}` here; the models are: {known}. See GET /v1/models.")

    @cached_property
    def needs_keys(self) -> bool:
        """Whether it matters who asks, or what: where a canary or several replicas share the requests."""
        return len(self.replicas) > 1 or any(alias.canary_release_id for alias in self.aliases.values())

    @cached_property
    def _names(self) -> dict[str, tuple[Route, ReleaseView | None]]:
        """Every name that can stand in `model`. An alias goes before a release of the same name."""
        routes = {
            name: Route(alias, tuple(replica for replica in self.replicas if replica.alias == name))
            for name, alias in self.aliases.items()
        }
        names: dict[str, tuple[Route, ReleaseView | None]] = {name: (route, None) for name, route in routes.items()}
        for release in self.releases.values():
            if (route := routes.get(release.alias)) is not None:
                names.setdefault(release.id, (route, release))
                names.setdefault(release.name, (route, release))
        return names
