"""A child notices that its parent is gone: its standard input, a pipe that the parent holds open, comes to its end."""

import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """Send this process SIGTERM when standard input ends, so that it leaves in good order."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
