"""What answers may be rated by, and what a value comes down to."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import RatingBody, parse_body
from gateway.feedback.metrics import leaning_of, metric_of
from gateway.settings import FeedbackSettings, MetricSettings

HELPFULNESS = MetricSettings(name="helpfulness", type="scale", min=1, max=5)
ERRORS = MetricSettings(name="errors", type="scale", min=0, max=10, direction="lower_is_better")
SETTINGS = FeedbackSettings(metrics=(HELPFULNESS, ERRORS))


def rating(name: str, value: Any, **fields: Any) -> RatingBody:
    body = parse_body(
        {"type": "rating", "target": {"completion_id": "chatcmpl-A"}, "name": name, "value": value} | fields
    )
    assert isinstance(body, RatingBody)
    return body


def refusal(body: RatingBody) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        metric_of(body, SETTINGS)
    return caught.value


def test_thumbs_are_built_in_and_form_pairs() -> None:
    metric = metric_of(rating("thumbs", True), FeedbackSettings())
    assert (metric.name, metric.type, metric.pairs) == ("thumbs", "boolean", True)
    assert (leaning_of(metric, True), leaning_of(metric, False)) == ("up", "down")


def test_an_undeclared_metric_is_answered_with_those_that_are() -> None:
    error = refusal(rating("kindness", 3))
    assert (error.status, error.code, error.param) == (400, "unknown_metric", "name")
    assert "`thumbs`, `helpfulness`, `errors`" in error.message


@pytest.mark.parametrize(
    ("name", "value", "fields", "param"),
    [
        ("thumbs", 1, {}, "value"),
        ("thumbs", True, {"scale": {"min": 0, "max": 1}}, "scale"),
        ("helpfulness", 0, {}, "value"),
        ("helpfulness", 5.5, {}, "value"),
        ("helpfulness", True, {}, "value"),
        ("helpfulness", 4, {"scale": {"min": 0, "max": 5}}, "scale"),
    ],
)
def test_a_value_that_its_metric_does_not_have_is_refused(
    name: str, value: Any, fields: dict[str, Any], param: str
) -> None:
    error = refusal(rating(name, value, **fields))
    assert (error.status, error.param) == (400, param)


def test_the_best_and_the_worst_quarter_of_a_scale_are_thumbs() -> None:
    assert [leaning_of(HELPFULNESS, value) for value in (1, 2, 2.5, 3.5, 4, 5)] == [
        "down", "down", None, None, "up", "up",
    ]  # fmt: skip


def test_where_lower_is_better_a_low_value_is_a_thumb_up() -> None:
    assert [leaning_of(ERRORS, value) for value in (0, 2.5, 3, 7, 7.5, 10)] == ["up", "up", None, None, "down", "down"]


def test_own_thresholds_are_honoured() -> None:
    strict = MetricSettings(name="m", type="scale", min=1, max=5, up=5, down=1)
    assert [leaning_of(strict, value) for value in (1, 2, 4, 5)] == ["down", None, None, "up"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "thumbs"},
        {"name": "Bad Name"},
        {"name": "m", "type": "scale"},
        {"name": "m", "type": "scale", "min": 5, "max": 1},
        {"name": "m", "type": "boolean", "min": 0},
        {"name": "m", "type": "scale", "min": 1, "max": 5, "up": 6},
        {"name": "m", "type": "scale", "min": 1, "max": 5, "up": 2, "down": 3},
    ],
)
def test_a_metric_that_makes_no_sense_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MetricSettings(**wrong)


def test_two_metrics_of_one_name_are_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="same name"):
        FeedbackSettings(metrics=(HELPFULNESS, HELPFULNESS))
