"""Every table there is, behind one import: the migrations and their test compare the database with these."""

from gateway.storage import (
    aligner_tables,
    annotation_tables,
    feedback_tables,
    file_tables,
    gate_tables,
    idempotency_tables,
    lookup_tables,
    notification_tables,
    privacy_tables,
    webhook_tables,
)
from gateway.storage.tables import Table

MODULES = (
    aligner_tables,
    annotation_tables,
    feedback_tables,
    file_tables,
    gate_tables,
    idempotency_tables,
    lookup_tables,
    notification_tables,
    privacy_tables,
    webhook_tables,
)
METADATA = Table.metadata
