"""What is given to everybody who works on one engine: its agent's duties share it."""

from dataclasses import dataclass

from gateway.agent.engine_host import EngineHost
from gateway.agent.held import Held
from gateway.agent.hosts import EngineHosts
from gateway.agent.releases import ReleaseLookup
from gateway.agent.workers import WorkerWatch
from gateway.storage.database import Database


@dataclass
class ReplicaDuty:
    """Something that an agent does for one replica."""

    replica_id: str
    database: Database
    releases: ReleaseLookup
    hosts: EngineHosts
    held: Held
    workers: WorkerWatch

    @property
    def host(self) -> EngineHost:
        """The engine that serves."""
        return self.hosts.serving
