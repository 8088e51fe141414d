"""The metrics by name, in Prometheus' text format; `docs/observability.md` lists them too.

Written directly: prometheus_client takes twenty times as long, and all the while streams of the same worker stutter.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from gateway.telemetry.meter import (
    DURATION_BOUNDS,
    FIRST_TOKEN_BOUNDS,
    OUTPUT_TOKEN_BOUNDS,
    WAIT_BOUNDS,
    Histogram,
    Meter,
)
from gateway.telemetry.snapshot import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exposition(totals: Totals, ready_replicas: Mapping[str, int]) -> bytes:
    """Every metric. `ready_replicas` is the same for all workers, so it is not added up."""
    lines = [*_of_requests(totals), *_of_no_request(totals, ready_replicas), ""]
    return "\n".join(lines).encode()


def _of_requests(totals: Totals) -> Iterator[str]:
    series = [
        (labelled(alias=alias, release=release, key=key), meter)
        for (alias, release, key), meter in totals.meters.items()
    ]
    yield from _head("alignway_requests_total", "counter", "Requests that reached an engine, by how they ended.")
    for labels, meter in series:
        for outcome, times in meter.outcomes.items():
            yield f'alignway_requests_total{{{labels},outcome="{outcome}"}} {times}'
    for name, kind, text, read in _NUMBERS:
        yield from _head(name, kind, text)
        for labels, meter in series:
            yield f"{name}{{{labels}}} {read(meter)}"
    for name, text, bounds, pick in _HISTOGRAMS:
        yield from _head(name, "histogram", text)
        for labels, meter in series:
            yield from _histogram(name, labels, bounds, pick(meter))


def _of_no_request(totals: Totals, ready_replicas: Mapping[str, int]) -> Iterator[str]:
    name = "alignway_refusals_total"
    yield from _head(name, "counter", "Requests answered with an error, by HTTP status and code.")
    for refusal, times in totals.refusals.items():
        status, _, code = refusal.partition(" ")
        yield f"{name}{{{labelled(status=status, code=code)}}} {times}"
    name = "alignway_engine_circuit_workers"
    yield from _head(name, "gauge", "How many gateway workers see the circuit of a replica in this state.")
    for (replica, state), workers in totals.circuits.items():
        yield f"{name}{{{labelled(replica=replica, state=state)}}} {workers}"
    name = "alignway_ready_replicas"
    yield from _head(name, "gauge", "Replicas that serve the release of their alias.")
    for alias, replicas in ready_replicas.items():
        yield f"{name}{{{labelled(alias=alias)}}} {replicas}"
    name = "alignway_retention_deleted_total"
    yield from _head(name, "counter", "Records deleted because they were too old, by kind.")
    for kind, records in totals.purged.items():
        yield f"{name}{{{labelled(kind=kind)}}} {records}"
    name = "alignway_queue_wait_seconds"
    yield from _head(name, "histogram", "How long requests waited for a replica, those that had to.")
    yield from _histogram(name, "", WAIT_BOUNDS, totals.queue_wait)
    for name, kind, text, number in (
        ("alignway_queue_requests", "gauge", "Requests that wait for a replica.", totals.queue_requests),
        ("alignway_gateway_workers", "gauge", "Gateway workers that live.", totals.workers),
        (
            "alignway_retention_last_run_timestamp_seconds",
            "gauge",
            "When a worker of this host last deleted what was too old; 0: not yet.",
            int(totals.purged_at),
        ),
        (
            "alignway_completions_unrecorded_total",
            "counter",
            "Answers sent whose record could not be written in time.",
            totals.unrecorded,
        ),
    ):
        yield from _head(name, kind, text)
        yield f"{name} {number}"


def labelled(**labels: str) -> str:
    """Labels as they stand between the braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def _head(name: str, kind: str, text: str) -> Iterable[str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _histogram(name: str, labels: str, bounds: tuple[float, ...], read: Histogram) -> Iterator[str]:
    before, alone = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    counts = list(accumulate(read.counts))
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
    yield f"{name}_count{alone} {counts[-1]}"
    yield f"{name}_sum{alone} {read.total}"


_NUMBERS: tuple[tuple[str, str, str, Callable[[Meter], int]], ...] = (
    (
        "alignway_prompt_tokens_total",
        "counter",
        "Tokens of prompts, as engines counted them.",
        lambda meter: meter.prompt_tokens,
    ),
    (
        "alignway_completion_tokens_total",
        "counter",
        "Tokens that engines wrote.",
        lambda meter: meter.completion_tokens,
    ),
    ("alignway_in_flight_requests", "gauge", "Requests at an engine.", lambda meter: meter.in_flight),
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
