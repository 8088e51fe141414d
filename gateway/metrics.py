"""Counters and gauges of one gateway worker, in Prometheus' terms."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Every metric, in a registry of its own so that two apps in one process do not clash."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.completions = Counter(
            "alignway_completions_total", "Completions by outcome", ("alias", "status"), registry=self.registry
        )
        self.unrecorded = Counter(
            "alignway_completions_unrecorded_total",
            "Answers sent whose record could not be written in time",
            registry=self.registry,
        )
        self.newcomer_wait = Histogram(
            "alignway_newcomer_wait_seconds",
            "Time from a request's arrival to its dispatch",
            buckets=WAIT_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("alignway_in_flight_requests", "Requests begun and not ended", registry=self.registry)
        self.first_chunk = Histogram(
            "alignway_time_to_first_chunk_seconds", "From dispatch to the first chunk", registry=self.registry
        )
