"""Counters and gauges of one gateway worker; they live in `gateway/telemetry/`."""

from gateway.telemetry.metrics import Metrics as Metrics
