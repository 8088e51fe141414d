"""Log lines are events with fields, as JSON on standard error; what libraries log becomes such events too."""

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import Processor

from gateway.telemetry.redaction import redact_event


def configure_logs(level: int = logging.INFO) -> None:
    """Set up the logs of this process: our own events from `level` on, the libraries' warnings and errors."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, *_SHARED, *_END],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_FOREIGN, processors=_RENDERED))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


_SHARED: Sequence[Processor] = (
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)
_END: Sequence[Processor] = (redact_event, structlog.processors.JSONRenderer(default=str))
_FOREIGN: Sequence[Processor] = (structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, *_SHARED)
_RENDERED: Sequence[Processor] = (structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_END)
