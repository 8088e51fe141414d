"""The parts that routes share, made once by `gateway/app.py` and handed to every handler."""

from dataclasses import dataclass

from gateway.access.authenticate import Authenticator
from gateway.access.limits import Limiter
from gateway.access.secrets import Secrets
from gateway.annotation.sampling import Comparisons
from gateway.engines.openai_client import EngineClient
from gateway.engines.upstream import Upstreams
from gateway.feedback.batch import VoteBatch
from gateway.feedback.pace import VotePace
from gateway.routing.drain import Drain
from gateway.routing.pool import Pool
from gateway.routing.sync import RoutingSync
from gateway.settings import Settings
from gateway.storage.completion_log import CompletionLog
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_log import RequestLog
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
    vote_pace: VotePace
    vote_batch: VoteBatch
    completions: CompletionLog
    engines: EngineClient
    """For routes that are not hot."""
    upstreams: Upstreams
    """For chats."""
    pool: Pool
    sync: RoutingSync
    metrics: Metrics
    traces: Traces
    request_log: RequestLog
    drain: Drain
    comparisons: Comparisons | None = None
    """Second answers to be compared; None: off."""

    def takes_images(self, alias: str) -> bool:
        """Whether the model behind an alias sees."""
        return any(model.images for model in self.settings.models if model.alias == alias)
