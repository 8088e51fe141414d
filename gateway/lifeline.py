"""Between a parent and its children: a first line that says what to do, then a pipe whose end means: I am gone."""

import os
import signal
import sys
import threading


def read_first_line() -> bytes:
    """The first line of standard input, read byte by byte: a buffered reader would keep its end from the lifeline."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return bytes(line)


def end_with_parent() -> None:
    """Send this process SIGTERM when standard input ends, so that it leaves in good order."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
