import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from gateway.demo.plot import draw_report, save_report
from gateway.demo.report import DemoReport, Example, Measured, Rollback, Stage, Streams, Teaching
from gateway.demo.statistics import Difference, answer_controls, perplexity_control
from gateway.demo.table import print_report


def report(**changed: Any) -> DemoReport:
    """A demo that passed, but for what is changed."""
    texts = ["one two three four five six seven eight", "a b c d e f g h i"]
    streams = Streams(
        streams=4,
        answers=20,
        failed=0,
        mixed=0,
        by_release={"rel_1": 8, "rel_2": 12},
        max_stall_seconds=0.4,
        max_wait_seconds=1.5,
    )
    facts: dict[str, Any] = {
        "alias": "assistant",
        "incumbent_id": "rel_1",
        "candidate_id": "rel_2",
        "style_before": 0.25,
        "style_after": 0.75,
        "difference": Difference(points=50, low=35.4, high=64.6),
        "words_before": (80, 120),
        "words_after": (8, 9),
        "holdout_accuracy": Measured(before=0.5, after=0.9),
        "perplexity": Measured(before=20, after=20.4),
        "controls": (*answer_controls(texts, [8, 9]), perplexity_control(20, 20.4)),
        "teaching": Teaching(completions=200, corrections=100, votes=60, pairs=160),
        "streams": streams,
        "rollback": Rollback(seconds=2.0, compared=8, restored=8),
        "stages": (Stage(name="teach", started_seconds=0, seconds=60),),
        "examples": (Example(prompt="Why?", before="Long [b]answer.", after="Short."),),
    }
    return DemoReport(**facts | changed)


def test_a_demo_that_kept_every_promise_passes():
    passed = report()
    assert (passed.reasons, passed.passed, passed.exit_code) == ((), True, 0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"difference": Difference(points=20, low=0, high=40)}, "includes 0"),
        ({"difference": Difference(points=14.9, low=5, high=25)}, "under 15"),
        ({"controls": answer_controls(["x", ""], [9, 9])}, "empty answers 1"),
        ({"controls": [perplexity_control(20, 22)]}, "perplexity rise 0.1 (limit 0.05)"),
        ({"controls": [perplexity_control(None, 22)]}, "perplexity rise was not measured"),
        ({"rollback": Rollback(seconds=60, compared=8, restored=7)}, "7 of 8"),
        ({"rollback": Rollback(seconds=60, compared=0, restored=0)}, "0 of 0"),
    ],
)
def test_each_broken_promise_fails_the_demo_with_its_reason(changed, reason):
    failed = report(**changed)
    assert failed.exit_code == 1
    assert len(failed.reasons) == 1
    assert reason in failed.reasons[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"failed": 1, "failures": ("ReadError: gone",)},
            "1 of 20 streamed answers failed during the swap: ReadError: gone",
        ),
        ({"mixed": 2}, "2 of 20 streamed answers mixed releases"),
        ({"answers": 0}, "no streamed answer"),
    ],
)
def test_a_broken_stream_fails_the_demo(changed, reason):
    failed = report(streams=report().streams.model_copy(update=changed))
    assert len(failed.reasons) == 1
    assert reason in failed.reasons[0]


def test_a_loss_of_style_is_no_gain_though_its_interval_excludes_0():
    assert len(report(difference=Difference(points=-40, low=-60, high=-20)).reasons) == 1


def test_the_table_shows_the_figures_and_why_it_failed():
    console = Console(file=io.StringIO(), width=120)
    print_report(
        report(perplexity=Measured(before=None, after=None), rollback=Rollback(seconds=1, compared=8, restored=0)),
        console,
    )
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "+50.0 points (+35.4 to +64.6)",
        "25%",
        "75%",
        "not measured",
        "Long [b]answer.",
        "0 of 8 greedy answers",
    ):
        assert words in shown


def test_the_files_are_json_with_the_verdict_and_a_png(tmp_path):
    json_path, plot_path = save_report(report(), tmp_path / "demo-report", draw_report)
    written = json.loads(json_path.read_text(encoding="utf-8"))
    assert (written["passed"], written["reasons"], written["difference"]["low"]) == (True, [], 35.4)
    assert plot_path.read_bytes().startswith(b"\x89PNG")


def test_matplotlib_and_torch_are_not_loaded_before_a_picture_is_drawn():
    imports = "import sys, gateway.demo.loop, gateway.demo.plot, gateway.demo.table"
    code = f"{imports}; print({{'matplotlib', 'torch', 'numpy'}} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
