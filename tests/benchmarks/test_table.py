"""The page of a run shows the figures that were recorded, and nothing bad is left out."""

from dataclasses import asdict

from benchmarks.gateway.measure import Row
from benchmarks.gateway.plan import DEFAULT
from benchmarks.gateway.plot import draw
from benchmarks.gateway.table import markdown


def make_row(name, request, **more):
    row = Row(name, load_1_minute=[0.3], cpu_us_per_request=[request, request + 2, request + 1], **more)
    row.worker_cpu_us_per_request, row.database_cpu_us_per_request = [request - 10.0], [0.0]
    row.requests_per_second, row.core_busy, row.rate = [5000.0], [0.97], 50.0
    row.latency_ms, row.first_chunk_ms = {"p50": [1.25], "p99": [3.0]}, {"p50": [0.75], "p99": [2.0]}
    row.cpu_us_per_chunk, row.streams, row.rss_mb, row.worker_rss_mb = [44.0], 100, 130.0, [64.0]
    row.answers = 20000
    return row


def run_of(*rows, failed=None):
    figures = {"rows": {row.name: asdict(row) for row in rows}, "failed": failed or {}, "routers": ["vllm-router"]}
    machine = {"processor": "x86_64", "processor_name": "AMD EPYC", "cores": 2, "python": "3.11.7"}
    return {"at": "2026-11-23T20:00:00+00:00", "machine": machine, "figures": figures | {"plan": asdict(DEFAULT)}}


def direct():
    row = make_row("direct", 40.0)
    row.latency_ms, row.first_chunk_ms = {"p50": [0.25], "p99": [0.5]}, {"p50": [0.5], "p99": [1.0]}
    return row


def test_a_row_shows_medians_and_what_the_gateway_adds():
    page = markdown(run_of(direct(), make_row("alignway", 90.0), make_row("vllm-router", 160.0)))
    assert (
        "| **alignway** | 91 | 80 | 5000 (97 %) | 1.00 / 2.50 | 44.0 | 0.25 / 1.00 | 130 (64) | 20000 | 0 |"
    ) in page
    assert "| direct | 41 |  | 5000 (97 %) | (0.25) / (0.50) | 44.0 | (0.50) / (1.00) | 130 | 20000 | 0 |" in page


def test_the_cheapest_stands_first_after_the_baseline():
    page = markdown(run_of(make_row("vllm-router", 160.0), make_row("alignway", 90.0), direct()))
    assert page.index("| direct |") < page.index("| **alignway** |") < page.index("| vllm-router |")


def test_wrong_answers_missing_records_and_lightened_loads_are_said():
    slow = make_row("litellm", 30000.0, wrong={"WrongAnswer: status 500": 3})
    slow.rate, slow.streams, slow.without_usage = 12.0, 7, 5
    ours = make_row("alignway", 90.0, facts={"limits": False, "recorded": 19999, "asked": 20000})
    page = markdown(run_of(direct(), slow, ours, failed={"portkey": "it ended with 1"}))
    for said in (
        "wrong 3 times: `WrongAnswer: status 500`",
        "latency at 12 requests/s",
        "7 streams at once",
        "5 streams lacked the usage",
        "19999 records of 20000 answers",
        "THE KEY HAD NO LIMITS",
        "portkey: not measured, it ended with 1",
    ):
        assert said in page


def test_the_goals_stand_under_the_table():
    page = markdown(run_of(direct(), make_row("alignway", 90.0), make_row("vllm-router", 160.0)))
    assert "- CPU per request at most 0.8x vllm-router's: 91.00 us, limit 128.80: met" in page


def test_the_plot_is_a_picture(tmp_path):
    draw(run_of(direct(), make_row("alignway", 90.0), make_row("vllm-router", 160.0)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
