"""The curves of a run as TensorBoard reads them, written at once: a full disk is noticed where it is met."""

import os
import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """A new file of events in a folder; TensorBoard takes those of later files for the newer ones."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        """`purge_step`: what earlier files say of this step and later ones no longer holds."""
        # Imported late: it costs half a second, and only a run needs it.
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def add(self, prefix: str, figures: dict[str, Any], step: int) -> None:
        """The figures of a step, each a curve `prefix/name`."""
        values = [
            self._summary.Value(tag=f"{prefix}/{name}", simple_value=value)
            for name, value in figures.items()
            if isinstance(value, int | float)
        ]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
