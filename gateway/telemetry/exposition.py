"""The metrics by name: what Prometheus shows of the sum over the workers. `docs/observability.md` lists them too."""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.telemetry.meter import (
    DURATION_BOUNDS,
    FIRST_TOKEN_BOUNDS,
    OUTPUT_TOKEN_BOUNDS,
    WAIT_BOUNDS,
    Histogram,
    Meter,
)
from gateway.telemetry.snapshot import Totals

LABELS = ("alias", "release", "key")


def families(totals: Totals, ready_replicas: Mapping[str, int]) -> Iterator[Metric]:
    """Every metric. `ready_replicas` is the same for all workers, so it is not added up."""
    meters = totals.meters.values()
    yield _outcomes(totals)
    for name, text, read in _COUNTERS:
        counter = CounterMetricFamily(name, text, labels=LABELS)
        for meter in meters:
            counter.add_metric(meter.labels, read(meter))
        yield counter
    for name, text, bounds, pick in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=LABELS)
        for meter in meters:
            _add(histogram, meter.labels, bounds, pick(meter))
        yield histogram
    in_flight = GaugeMetricFamily("alignway_in_flight_requests", "Requests at an engine.", labels=LABELS)
    for meter in meters:
        in_flight.add_metric(meter.labels, meter.in_flight)
    yield in_flight
    yield from _of_no_request(totals, ready_replicas)


def _of_no_request(totals: Totals, ready_replicas: Mapping[str, int]) -> Iterator[Metric]:
    refusals = CounterMetricFamily(
        "alignway_refusals", "Requests answered with an error, by HTTP status and code.", labels=("status", "code")
    )
    for refusal, times in totals.refusals.items():
        refusals.add_metric(refusal.split(" ", 1), times)
    yield refusals
    yield CounterMetricFamily(
        "alignway_completions_unrecorded",
        "Answers sent whose record could not be written in time.",
        value=totals.unrecorded,
    )
    yield GaugeMetricFamily("alignway_queue_requests", "Requests that wait for a replica.", value=totals.queue_requests)
    waits = HistogramMetricFamily(
        "alignway_queue_wait_seconds", "How long requests waited for a replica, those that had to.", labels=()
    )
    _add(waits, (), WAIT_BOUNDS, totals.queue_wait)
    yield waits
    circuits = GaugeMetricFamily(
        "alignway_engine_circuit_workers",
        "How many gateway workers see the circuit of a replica in this state.",
        labels=("replica", "state"),
    )
    for (replica, state), workers in totals.circuits.items():
        circuits.add_metric((replica, state), workers)
    yield circuits
    ready = GaugeMetricFamily(
        "alignway_ready_replicas", "Replicas that serve the release of their alias.", labels=("alias",)
    )
    for alias, replicas in ready_replicas.items():
        ready.add_metric((alias,), replicas)
    yield ready
    yield GaugeMetricFamily("alignway_gateway_workers", "Gateway workers that live.", value=totals.workers)


def _outcomes(totals: Totals) -> Metric:
    requests = CounterMetricFamily(
        "alignway_requests", "Requests that reached an engine, by how they ended.", labels=(*LABELS, "outcome")
    )
    for meter in totals.meters.values():
        for outcome, times in meter.outcomes.items():
            requests.add_metric((*meter.labels, outcome), times)
    return requests


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], bounds: tuple[float, ...], read: Histogram) -> None:
    names = (*(str(bound) for bound in bounds), "+Inf")
    family.add_metric(labels, list(zip(names, accumulate(read.counts), strict=True)), read.total)


_COUNTERS: tuple[tuple[str, str, Callable[[Meter], float]], ...] = (
    ("alignway_prompt_tokens", "Tokens of prompts, as engines counted them.", lambda meter: meter.prompt_tokens),
    ("alignway_completion_tokens", "Tokens that engines wrote.", lambda meter: meter.completion_tokens),
)
_HISTOGRAMS: tuple[tuple[str, str, tuple[float, ...], Callable[[Meter], Histogram]], ...] = (
    (
        "alignway_time_to_first_token_seconds",
        "From a request's arrival to the first chunk of its answer, of streams.",
        FIRST_TOKEN_BOUNDS,
        lambda meter: meter.first_token,
    ),
    (
        "alignway_time_per_output_token_seconds",
        "Time from the first chunk to the end, by token after the first, of streams.",
        OUTPUT_TOKEN_BOUNDS,
        lambda meter: meter.output_token,
    ),
    (
        "alignway_request_duration_seconds",
        "From a request's arrival to the end of its answer.",
        DURATION_BOUNDS,
        lambda meter: meter.duration,
    ),
)
