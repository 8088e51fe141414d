"""How long tests wait.

What is promised in seconds is measured by benchmarks, on quiet cores. A test tells on any machine, however busy,
whether a thing happens by itself; it waits much longer than promised, and much shorter than for ever.
"""

PATIENCE = 10


def patient(promised_seconds: float) -> float:
    """Seconds that a test waits for what is promised within `promised_seconds`."""
    return PATIENCE * promised_seconds
