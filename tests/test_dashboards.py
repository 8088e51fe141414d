"""What dashboard, alert rules and documentation say of metrics is true."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.snapshot import PoolReading

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "deploy" / "dashboards" / "alignway.json"
ALERTS = ROOT / "deploy" / "dashboards" / "alerts.yaml"
PAGE = ROOT / "docs" / "observability.md"
FROM_PROMETHEUS = {"instance", "le"}


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Each metric that a worker shows which has met everything, with its labels."""
    pool = PoolReading(circuits={"r1": "open"}, ready_replicas={"assistant": 1})
    metrics = Metrics(read_pool=lambda: pool)
    meter = metrics.meter("assistant", "assistant-1", "laptop")
    meter.began()
    meter.ended("finished", 1, 2, 0.1, 1.0)
    metrics.refused(429, "queue_full")
    metrics.purge_done({"completions": 1}, 1.0)
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(metrics._render(*metrics._snapshot()).decode()):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


def expressions() -> list[str]:
    dashboard: Any = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    rules: Any = yaml.safe_load(ALERTS.read_text())
    return found + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_exists(expression: str, shown: dict[str, set[str]]) -> None:
    names = re.findall(r"\balignway_\w+", expression)
    assert names
    labels = {label for name in names for label in shown.get(name, set())}
    assert [name for name in names if name not in shown] == []
    matched = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression)
    grouped = [label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")]
    assert {*matched, *grouped} <= labels | FROM_PROMETHEUS


def test_every_expression_closes_what_it_opens() -> None:
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression


def test_every_metric_is_on_the_dashboard_and_in_the_documentation(shown: dict[str, set[str]]) -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    asked = " ".join(expressions())
    rows = dict(re.findall(r"^\| `(alignway_\w+)` \| \w+ \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE))
    assert set(rows) == families
    assert [name for name in families if name not in asked] == []
    for name, labels in rows.items():
        real = shown.get(name) or shown[f"{name}_bucket"] - {"le"}
        assert set(re.findall(r"`(\w+)`", labels)) == real, name


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels: Any = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
