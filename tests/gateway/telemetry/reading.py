"""Reads metrics as Prometheus would: the text of `/metrics`, through its own parser."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.telemetry.metrics import Metrics


def samples(metrics: Metrics) -> Iterator[Sample]:
    """All samples that the worker shows now."""
    for family in text_string_to_metric_families(metrics._render(*metrics._snapshot()).decode()):
        yield from family.samples


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one sample; None if there is none."""
    return next((sample.value for sample in samples(metrics) if (sample.name, sample.labels) == (name, labels)), None)
