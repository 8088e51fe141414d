"""Every number one gateway worker counts of its requests, and the meters they are counted with."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.meter import Meter

WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Hands out meters and counts what belongs to no request that reached an engine."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str, str], Meter] = {}
        self.refusals: dict[tuple[int, str], int] = {}
        self.registry = CollectorRegistry()
        self.completions = Counter(
            "alignway_completions_total", "Completions by outcome", ("alias", "status"), registry=self.registry
        )
        self.unrecorded = Counter(
            "alignway_completions_unrecorded_total",
            "Answers sent whose record could not be written in time",
            registry=self.registry,
        )
        self.newcomer_wait = self.queue_wait = Histogram(
            "alignway_newcomer_wait_seconds",
            "Time from a request's arrival to its dispatch",
            buckets=WAIT_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("alignway_in_flight_requests", "Requests begun and not ended", registry=self.registry)
        self.first_chunk = Histogram(
            "alignway_time_to_first_chunk_seconds", "From dispatch to the first chunk", registry=self.registry
        )

    def meter(self, alias: str, release_name: str, key_name: str) -> Meter:
        """The meter of these requests, always the same one."""
        found = self._meters.get((alias, release_name, key_name))
        return found if found is not None else self._new_meter(alias, release_name, key_name)

    def refused(self, status: int, code: str) -> None:
        """A request was answered with an error."""
        self.refusals[status, code] = self.refusals.get((status, code), 0) + 1

    def _new_meter(self, alias: str, release_name: str, key_name: str) -> Meter:
        meter = self._meters[alias, release_name, key_name] = Meter(alias, release_name, key_name)
        return meter
