"""For clients in environments of their own: runs each named call and prints what it gave as JSON.

The tests beside this folder start such a script once and say what must have come out. Knows nothing but Python.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ["ALIGNWAY_CONFORMANCE_URL"]
KEY = os.environ["ALIGNWAY_CONFORMANCE_KEY"]
MODEL = os.environ["ALIGNWAY_CONFORMANCE_MODEL"]
QUESTION = "Name three rivers in Europe."
ASKED = "What is the weather in Paris?"

_calls: dict[str, Callable[[], Any]] = {}


def observed(call: Callable[[], Any]) -> Callable[[], Any]:
    """Take a function's value, or the error it ends with, as an observation of its name."""
    _calls[call.__name__] = call
    return call


def described(error: BaseException) -> dict[str, Any]:
    """An error as a client would look at it."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    fields = {name: getattr(error, name, None) for name in ("status_code", "code", "param")}
    return {"kinds": kinds, "message": str(error)[:2000], "trace": traceback.format_exc()[-2000:], **fields}


def main() -> None:
    """Print one JSON object: the observations by name."""
    found: dict[str, Any] = {}
    for name, call in _calls.items():
        began = time.monotonic()
        try:
            found[name] = {"value": call()}
        except Exception as error:
            found[name] = {"error": described(error)}
        print(f"{name}: {time.monotonic() - began:.2f} s", file=sys.stderr)
    json.dump(found, sys.stdout)
