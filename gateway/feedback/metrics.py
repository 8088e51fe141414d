"""By what answers may be rated, and which ratings are a thumb up or down. Pure."""

from typing import Literal

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import RatingBody
from gateway.sections.votes import THUMBS
from gateway.settings import FeedbackSettings, MetricSettings

Leaning = Literal["up", "down"]
OPPOSITE: dict[str, Leaning] = {"up": "down", "down": "up"}

_THUMBS = MetricSettings.model_construct(name=THUMBS, type="boolean", pairs=True)


def metric_of(body: RatingBody, settings: FeedbackSettings) -> MetricSettings:
    """The metric that a rating names. Raises `InvalidRequest` if none is declared so, or the value is not one of it."""
    declared = {metric.name: metric for metric in (_THUMBS, *settings.metrics)}
    metric = declared.get(body.name)
    if metric is None:
        names = ", ".join(f"`{name}`" for name in declared)
        raise InvalidRequest(
            f"There is no metric {body.name[:64]!r}; declared are {names}. Others are declared in the gateway's "
            "settings, as `[[feedback.metrics]]`.",
            param="name",
            code="unknown_metric",
        )
    _require_value(metric, body)
    return metric


def leaning_of(metric: MetricSettings, value: float) -> Leaning | None:
    """Whether a value counts as a thumb up or down; None in between."""
    sign = 1 if metric.direction == "higher_is_better" else -1
    up, down = metric.bounds
    if sign * value >= sign * up:
        return "up"
    return "down" if sign * value <= sign * down else None


def _require_value(metric: MetricSettings, body: RatingBody) -> None:
    if metric.type == "boolean":
        if not isinstance(body.value, bool):
            raise InvalidRequest(f"`{metric.name}` is true or false.", param="value", code="invalid_value")
        if body.scale is not None:
            raise InvalidRequest(f"`{metric.name}` is true or false and has no scale.", param="scale")
        return
    low, high = metric.range
    if isinstance(body.value, bool) or not low <= body.value <= high:
        raise InvalidRequest(
            f"`{metric.name}` is a number from {low:g} to {high:g}.", param="value", code="invalid_value"
        )
    if body.scale is not None and (body.scale.min, body.scale.max) != (low, high):
        raise InvalidRequest(f"`{metric.name}` goes from {low:g} to {high:g}.", param="scale", code="invalid_value")
