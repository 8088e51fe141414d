"""Typed settings. Each is documented where it is declared, here or in `gateway/sections`; an unknown key is an error.

Nothing is read here: `gateway/commands/configuration.py` reads file, environment and flags, once, at the edge.
"""

from pathlib import Path
from urllib.parse import quote

from pydantic import Field, model_validator

from gateway.sections.aligner import AlignerSettings
from gateway.sections.annotation import AnnotationSettings, ComparisonSettings, JudgeSettings
from gateway.sections.canary import CanarySettings
from gateway.sections.datasets import DatasetSettings
from gateway.sections.files import FileSettings
from gateway.sections.gates import GateSettings
from gateway.sections.learning import FeedbackSettings, IgnoredText
from gateway.sections.models import DEFAULT_MODEL, EngineKind, EngineSettings, ModelSettings, Task
from gateway.sections.notify import NotifySettings
from gateway.sections.privacy import PresidioSettings, PrivacySettings, RedactionMode, RetentionSettings
from gateway.sections.releases import ReleaseSettings
from gateway.sections.section import Section
from gateway.sections.serving import (
    LimitSettings,
    PoolSettings,
    ServerSettings,
    SurfaceSettings,
    SwapSettings,
    TelemetrySettings,
    UpstreamSettings,
)
from gateway.sections.users import UserSettings
from gateway.sections.votes import MetricSettings, PairingSettings, TrustSettings
from gateway.sections.webhooks import WebhookSettings

__all__ = [
    "DEFAULT_MODEL",
    "AlignerSettings",
    "AnnotationSettings",
    "CanarySettings",
    "ComparisonSettings",
    "DatabaseSettings",
    "DatasetSettings",
    "EngineKind",
    "EngineSettings",
    "FeedbackSettings",
    "FileSettings",
    "GateSettings",
    "IgnoredText",
    "JudgeSettings",
    "LimitSettings",
    "MetricSettings",
    "ModelSettings",
    "NotifySettings",
    "PairingSettings",
    "PoolSettings",
    "PresidioSettings",
    "PrivacySettings",
    "RedactionMode",
    "ReleaseSettings",
    "RetentionSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "SurfaceSettings",
    "SwapSettings",
    "Task",
    "TelemetrySettings",
    "TrustSettings",
    "UpstreamSettings",
    "UserSettings",
    "WebhookSettings",
]
"""Whoever takes settings takes them from here."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class DatabaseSettings(Section):
    """Where the records are kept."""

    url: str | None = None
    """`postgresql+asyncpg://user:password@host/name`; default: SQLite in the data directory."""


class StoreSettings(Section):
    """Where releases, datasets and run logs are kept."""

    path: Path | None = None
    """A directory; default: `store` in the data directory."""
    url: str | None = Field(default=None, pattern=r"^(s3|file)://[^/\s]*/?[^\s]*$")
    """A bucket for releases, `s3://bucket/prefix`: aligners upload to it, agents fetch into their `path`. Needs the
    extra `s3`; keys come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`)."""
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://")
    """Where the bucket's server listens, if it is not Amazon's."""


class Settings(Section):
    """Everything that can be set, for every process."""

    data_dir: Path = Path(".alignway")
    """Database, releases, logs and engine state live here."""
    admin_key: str | None = Field(default=None, min_length=16)
    """The first admin key; without it one is minted and printed once."""
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    store: StoreSettings = StoreSettings()
    models: tuple[ModelSettings, ...] = (ModelSettings(),)
    surface: SurfaceSettings = SurfaceSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    pool: PoolSettings = PoolSettings()
    swap: SwapSettings = SwapSettings()
    releases: ReleaseSettings = ReleaseSettings()
    canary: CanarySettings = CanarySettings()
    limits: LimitSettings = LimitSettings()
    users: UserSettings = UserSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    datasets: DatasetSettings = DatasetSettings()
    annotation: AnnotationSettings = AnnotationSettings()
    comparisons: ComparisonSettings = ComparisonSettings()
    judge: JudgeSettings = JudgeSettings()
    files: FileSettings = FileSettings()
    aligner: AlignerSettings = AlignerSettings()
    webhooks: WebhookSettings = WebhookSettings()
    gates: GateSettings = GateSettings()
    privacy: PrivacySettings = PrivacySettings()
    notify: NotifySettings = NotifySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _open_door_on_loopback_only(self) -> "Settings":
        if self.server.auth == "off" and self.server.host not in LOOPBACK:
            raise ValueError('server.auth = "off" is allowed on loopback alone; set server.host = "127.0.0.1"')
        if len({model.alias for model in self.models}) != len(self.models):
            raise ValueError("two [[models]] entries have the same alias")
        if self.gates.judge and self.judge.base_url is None:
            raise ValueError("gates.judge = true goes with judge.base_url: the endpoint that is asked")
        return self

    @property
    def database_url(self) -> str:
        """The URL of the database, with the default filled in."""
        return self.database.url or f"sqlite+aiosqlite:///{quote(str(self.data_dir.resolve() / 'alignway.db'))}"

    @property
    def store_path(self) -> Path:
        """The folder of the release store, with the default filled in."""
        return (self.store.path or self.data_dir / "store").resolve()
