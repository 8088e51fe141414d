"""Every record of Alignway as a table. Columns only: no decision lives here.

Times are unix seconds (float, UTC). Ids are those of `gateway/contracts/ids.py`.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, MetaData, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gateway.contracts.rollout import OPEN_STATES

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Json = JSON().with_variant(JSONB(), "postgresql")
ROLLOUT_IS_OPEN = text(f"state IN ({', '.join(repr(state) for state in OPEN_STATES)})")


class Table(DeclarativeBase):
    """Base of all tables; dictionaries and lists are stored as JSON, text has no length limit."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012  (read by SQLAlchemy when the class is made)
        dict[str, Any]: Json,
        list[Any]: Json,
        str: String(),
        float: Float(53),
        int: BigInteger(),
    }


class Project(Table):
    """An owner of keys, completions and feedback; nothing crosses projects unless an alias says so."""

    __tablename__ = "project"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]


class ApiKey(Table):
    """A bearer key; only its SHA-256 is kept."""

    __tablename__ = "api_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    secret_sha256: Mapped[str] = mapped_column(unique=True)
    previous_sha256: Mapped[str | None] = mapped_column(unique=True)
    """The secret before the last rotation; works until `previous_expires_at`."""
    previous_expires_at: Mapped[float | None]
    scopes: Mapped[list[Any]]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    streams: Mapped[int | None]
    """Requests open at once; none of the three: the settings' limits."""
    images: Mapped[bool] = mapped_column(default=False)
    """Whether it may send bodies up to `server.image_body_limit_bytes`."""
    train: Mapped[bool] = mapped_column(default=True)
    """Whether its completions and votes may make pairs."""
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class LimitState(Table):
    """How much of a key's limits was given out lately, and to which workers; see `gateway/access/window.py`."""

    __tablename__ = "limit_state"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[dict[str, Any]]


class Usage(Table):
    """What a key used for an end user in a month."""

    __tablename__ = "usage"
    month: Mapped[str] = mapped_column(primary_key=True)
    """UTC, such as `2026-11`."""
    key_id: Mapped[str] = mapped_column(primary_key=True)
    end_user_hash: Mapped[str] = mapped_column(primary_key=True)
    """Empty for requests that named no end user."""
    project_id: Mapped[str]
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]


class Secret(Table):
    """The root secret from which all keyed hashes and tokens are derived; backed up with the database."""

    __tablename__ = "secret"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Counter(Table):
    """A number that only grows: `routing` is the epoch of the desired state."""

    __tablename__ = "counter"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Lease(Table):
    """Who may do a job that one process at a time does; `epoch` fences the writes of a holder that lost it."""

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int]
    expires_at: Mapped[float]


class Alias(Table):
    """A public model name and the release it serves."""

    __tablename__ = "alias"
    name: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    base_release_id: Mapped[str]
    serving_release_id: Mapped[str]
    canary_release_id: Mapped[str | None]
    canary_share: Mapped[float] = mapped_column(default=0.0)
    swap: Mapped[str] = mapped_column(default="merged")
    """`merged` or `adapter`: how a promoted release is held by the engine."""
    task: Mapped[str] = mapped_column(default="chat")
    """`chat`, or `embed` or `rerank`: then it has no releases but the one it began with, and is never trained."""
    auto_training_paused_reason: Mapped[str | None] = mapped_column(Text)
    """Why no training begins by itself: somebody paused it, or a release was rolled back by itself."""
    schedule: Mapped[str | None]
    """The schedule that `scheduled_until` belongs to, as the settings say it."""
    scheduled_until: Mapped[float | None]
    """What was planned up to here has been started or left out: it is not looked at again."""
    schedule_remark: Mapped[str | None] = mapped_column(Text)
    """Why the newest planned run was left out; None where it was started."""
    created_at: Mapped[float]
    updated_at: Mapped[float]


class ReleaseRow(Table):
    """A release as announced by the aligner, or the base model an alias began with (`kind` `base`)."""

    __tablename__ = "release"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    """`base` or `aligned`."""
    state: Mapped[str]
    """staged, published, rejected or retired."""
    parent_id: Mapped[str | None]
    base_release_id: Mapped[str | None]
    """The release whose weights the adapter was trained on; none for a base."""
    location: Mapped[str] = mapped_column(Text)
    """Folder: inside the release store for `aligned`, the model's own for `base`."""
    adapter_rank: Mapped[int | None]
    manifest: Mapped[dict[str, Any]]
    tainted: Mapped[bool] = mapped_column(default=False)
    """Trained on something that was erased since."""
    blocked_by: Mapped[str | None]
    """The erasure that forbids to serve it."""
    pinned: Mapped[bool] = mapped_column(default=False)
    """Whether it is kept whatever `releases.keep` says."""
    pruned_at: Mapped[float | None]
    """When its weights were removed; its row and card stay."""
    created_at: Mapped[float]


class Rollout(Table):
    """The step from incumbent to candidate under one alias."""

    __tablename__ = "rollout"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    candidate_id: Mapped[str]
    incumbent_id: Mapped[str]
    state: Mapped[str]
    kind: Mapped[str] = mapped_column(default="promote")
    """`promote` or `rollback`."""
    strategy: Mapped[str]
    """`immediate` or `canary`."""
    canary_share: Mapped[float] = mapped_column(default=0.0)
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text, default="")
    """What it waits for, or why it ended."""
    step: Mapped[int] = mapped_column(default=0)
    """How often the share, or then the state, has gone up since the candidate got its first share."""
    step_began_at: Mapped[float | None]
    """Evidence is counted from here; none before the candidate gets traffic."""
    restarts_before: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Per replica: its restarts when the step began."""
    evidence: Mapped[dict[str, Any] | None]
    """What the last look at the step found."""
    created_at: Mapped[float]
    updated_at: Mapped[float]

    __table_args__ = (
        Index(
            "uq_rollout_open_alias",
            "alias",
            unique=True,
            sqlite_where=ROLLOUT_IS_OPEN,
            postgresql_where=ROLLOUT_IS_OPEN,
        ),
    )


class RolloutStep(Table):
    """One transition of a rollout, or a change of its share (from `canary` to `canary`); append-only."""

    __tablename__ = "rollout_step"
    id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollout.id"), index=True)
    from_state: Mapped[str]
    to_state: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    evidence: Mapped[dict[str, Any] | None]
    """What was known of the candidate when the step was taken."""
    at: Mapped[float]


class Replica(Table):
    """One running engine: what it should hold (written by the reconciler) and what it does hold (by its agent)."""

    __tablename__ = "replica"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    engine: Mapped[str]
    """vllm, lmdeploy, scripted or url."""
    managed: Mapped[bool]
    """Whether an agent can load into it; false for an engine given by bare URL."""
    origin: Mapped[str] = mapped_column(default="settings")
    """`settings`, or `promotion`: its address was given when a release was promoted, and it holds that one."""
    url: Mapped[str | None]
    weights_name: Mapped[str] = mapped_column(default="weights")
    """The model name under which the engine serves its full weights."""
    phase: Mapped[str]
    """starting, ready, failed, lent or stopped."""
    weights_release_id: Mapped[str | None]
    """Whose full weights the engine holds."""
    adapters: Mapped[list[Any]]
    """Ids of the releases whose adapters are loaded."""
    max_adapter_rank: Mapped[int] = mapped_column(default=0)
    """0: the engine cannot load adapters at run time."""
    in_place: Mapped[bool] = mapped_column(default=True)
    """Whether the engine takes other full weights while it runs; else a second one is started beside it."""
    desired_weights_id: Mapped[str]
    desired_adapters: Mapped[list[Any]]
    swap_state: Mapped[str | None]
    """None, `draining` (fenced; can still be called off), `loading` (the agent is at it), `beside` (not fenced: a
    second engine is started on what is desired, and takes over) or `lending` (its engine is stopped, so that a run can
    have its device)."""
    swap_deadline: Mapped[float | None]
    swap_not_before: Mapped[float | None]
    """An exchange that was put off is not tried again before this."""
    swap_put_offs: Mapped[int] = mapped_column(default=0)
    """Exchanges put off since the last that succeeded."""
    epoch: Mapped[int]
    """Routing epoch at which the desired state last changed."""
    seen_at: Mapped[float]
    """When the agent last wrote."""
    restarts: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(Text, default="")
    devices: Mapped[str | None]
    """Of its engine, such as `0` or `2,3`; None: the engine chooses."""
    lent_to: Mapped[str | None]
    """The run that has its device."""


class GatewayWorker(Table):
    """A gateway worker's heartbeat, the newest routing epoch that it obeys, and what it has in flight."""

    __tablename__ = "gateway_worker"
    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    epoch: Mapped[int]
    in_flight: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Requests at work when it last wrote, by an engine's address; those with none are left out."""
    started_at: Mapped[float]
    seen_at: Mapped[float]


class FenceAck(Table):
    """`worker` sends nothing to `replica` since `epoch`, and nothing it sent is still in flight."""

    __tablename__ = "fence_ack"
    worker_id: Mapped[str] = mapped_column(primary_key=True)
    replica_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]


class AuditEntry(Table):
    """Who did what to which record; holds no text of users."""

    __tablename__ = "audit_entry"
    id: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[float]
