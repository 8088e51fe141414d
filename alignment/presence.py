"""Tell the database that this aligner is there, and which devices it has: for whoever asks what a run would be."""

import asyncio
import socket
import time

import structlog

from alignment.devices import find_devices
from gateway.storage.aligner_hosts import forget_aligner, report_aligner
from gateway.storage.database import Database

REPORT_SECONDS = 15.0

log = structlog.get_logger(__name__)


async def announce_presence(database: Database, aligner_id: str) -> None:
    """Report until cancelled. A database that is away is told later."""
    while True:
        try:
            devices = await asyncio.to_thread(find_devices)
            async with database.write("relaxed") as session:
                await report_aligner(session, aligner_id, socket.gethostname(), devices, time.time())
        except Exception as error:
            log.warning("aligner_not_announced", error=str(error))
        await asyncio.sleep(REPORT_SECONDS)


async def sign_off(database: Database, aligner_id: str) -> None:
    """It ends: nobody waits for it."""
    try:
        async with database.write("relaxed") as session:
            await forget_aligner(session, aligner_id)
    except Exception as error:  # it is taken for gone soon anyway
        log.warning("aligner_not_signed_off", error=str(error))
