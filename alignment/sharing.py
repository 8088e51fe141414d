"""Releases that machines share through a bucket: uploaded before they are announced, fetched to be compared with."""

import asyncio
from pathlib import Path

from alignment.errors import AlignmentError
from alignment.ledger import RunLedger
from gateway.contracts.seal import BrokenSeal
from gateway.storage.bucket import Bucket


async def share(store: Path, location: str, bucket: Bucket | None, ledger: RunLedger) -> None:
    """Upload a sealed release: nothing is announced that other machines could not fetch."""
    if bucket is None:
        return
    await asyncio.to_thread(bucket.upload, store / location, location)
    ledger.note(f"uploaded to {bucket.url}/{location}")


async def fetch_incumbent(
    adapter: Path | None, location: str, release_id: str, bucket: Bucket | None, spare_bytes: int
) -> None:
    """Fetch the release that serves, if it was made on another machine."""
    if bucket is None or adapter is None or adapter.is_dir():
        return
    try:
        await asyncio.to_thread(bucket.fetch, location, adapter.parent, release_id, spare_bytes)
    except BrokenSeal as error:
        raise AlignmentError(f"the serving release cannot be compared with: {error}") from error
