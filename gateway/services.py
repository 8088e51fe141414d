"""The parts that routes share, made once by `gateway/app.py` and handed to every handler."""

from dataclasses import dataclass

from gateway.access.authenticate import Authenticator
from gateway.access.limits import Limiter
from gateway.access.secrets import Secrets
from gateway.engines.openai_client import EngineClient
from gateway.routing.pool import Pool
from gateway.routing.sync import RoutingSync
from gateway.settings import Settings
from gateway.storage.completions import CompletionRecorder
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import Traces


@dataclass(frozen=True)
class Services:
    """Everything a request handler may need."""

    settings: Settings
    database: Database
    secrets: Secrets
    authenticator: Authenticator
    limiter: Limiter
    votes: GroupCommit
    completions: CompletionRecorder
    engines: EngineClient
    pool: Pool
    sync: RoutingSync
    metrics: Metrics
    traces: Traces
