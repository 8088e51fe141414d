"""The aligner: `python -m alignment --store DIR`. Waits for training runs in the database and carries them out."""

import argparse
import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import structlog

from alignment.freezing import Rules
from alignment.worker import Worker
from gateway.redaction.configured import training_redaction
from gateway.sections.aligner import AlignerSettings
from gateway.sections.annotation import AnnotationSettings, JudgeSettings
from gateway.sections.datasets import DatasetSettings
from gateway.sections.gates import GateSettings
from gateway.sections.privacy import PrivacySettings
from gateway.sections.releases import ReleaseSettings
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database

DATABASE_VARIABLE = "ALIGNWAY_DATABASE_URL"


def main() -> None:
    """Read the command line, then work until told to stop."""
    arguments = _parser().parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if not arguments.database:
        sys.exit(f"name the database by --database URL or by the variable {DATABASE_VARIABLE}")
    asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    database = Database(arguments.database)
    privacy = PrivacySettings.model_validate_json(arguments.privacy)
    spare = ReleaseSettings.model_validate_json(arguments.releases).min_free_disk_mib << 20
    bucket = Bucket(arguments.store_url, arguments.store_endpoint_url) if arguments.store_url else None
    rules = Rules(
        datasets=DatasetSettings.model_validate_json(arguments.datasets),
        redact=training_redaction(privacy),
        gates=GateSettings.model_validate_json(arguments.gates),
        judge=JudgeSettings.model_validate_json(arguments.judge),
        guideline=AnnotationSettings.model_validate_json(arguments.annotation).guideline,
        spare_bytes=spare,
        bucket=bucket,
    )
    worker = Worker(
        database,
        arguments.store.resolve(),
        rules,
        AlignerSettings.model_validate_json(arguments.aligner),
        poll_seconds=arguments.poll_seconds,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stopping.set)
    if arguments.lifeline:
        _stop_with_parent(loop, worker.stopping)
    try:
        await worker.serve(once=arguments.once)
    finally:
        await database.close()


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """Stop once standard input ends, which it does when whoever holds its other end dies."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignment", description=__doc__)
    parser.add_argument(
        "--database", default=os.environ.get(DATABASE_VARIABLE), help=f"URL; default: ${DATABASE_VARIABLE}"
    )
    parser.add_argument("--store", type=Path, required=True, help="folder for data sets, runs and releases")
    parser.add_argument("--datasets", default="{}", help="the settings under `datasets`, as JSON")
    parser.add_argument("--privacy", default="{}", help="the settings under `privacy`, as JSON")
    parser.add_argument("--releases", default="{}", help="the settings under `releases`, as JSON")
    parser.add_argument("--store-url", help="a bucket that releases are uploaded to, such as s3://bucket/prefix")
    parser.add_argument("--store-endpoint-url", help="where the bucket's server listens")
    parser.add_argument("--aligner", default="{}", help="the settings under `aligner`, as JSON")
    parser.add_argument("--gates", default="{}", help="the settings under `gates`, as JSON")
    parser.add_argument("--judge", default="{}", help="the settings under `judge`, as JSON")
    parser.add_argument("--annotation", default="{}", help="the settings under `annotation`, as JSON")
    parser.add_argument("--poll-seconds", type=float, default=1.0, help="look for a run this often")
    parser.add_argument("--once", action="store_true", help="end when no run waits")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    return parser


if __name__ == "__main__":
    main()
