"""What the full demo makes of what it sees, without a service: tallies, evidence, verdict, files."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from gateway.commands.configuration import load_settings
from gateway.commands.demo import demo
from gateway.contracts.release import GateResult
from gateway.demo.answer import Answer
from gateway.demo.full import users
from gateway.demo.full.broken import write_broken_copy
from gateway.demo.full.inverted import invert
from gateway.demo.full.play import profile, write_profile
from gateway.demo.full.plot import draw_full_report
from gateway.demo.full.report import (
    CanaryStep,
    CanaryWalk,
    FullReport,
    Inverted,
    Sabotage,
    SignalFigures,
    Traffic,
    bad_signals,
    canary_steps,
    stops,
)
from gateway.demo.full.table import print_full_report
from gateway.demo.plot import save_report
from gateway.demo.report import Measured, Stage, Teaching
from gateway.demo.service import DemoFailed
from gateway.demo.statistics import Difference, perplexity_control

BLOCKED = GateResult(
    gate="holdout_preference",
    verdict="block",
    value=-0.25,
    limit=-0.05,
    reason="accuracy fell",
    low=-0.4,
    high=-0.1,
    n=20,
)
PASSED = GateResult(gate="perplexity", verdict="pass", value=0.01, limit=0.05, reason="as likely as before")


def traffic(**changed: Any) -> Traffic:
    facts: dict[str, Any] = {
        "answers": 100,
        "by_release": {"rel_1": 80, "rel_2": 20},
        "failed": 0,
        "failures": (),
        "strangers": 0,
        "moved_back": 0,
        "preferences": 12,
        "preferred_candidate": 11,
        "thumbs_up": 30,
        "thumbs_down": 70,
    }
    return Traffic(**facts | changed)


def full_report(**changed: Any) -> FullReport:
    """A full demo that passed, but for what is changed in one of its parts."""
    steps = (
        CanaryStep(share=0.05, seconds=20, requests=6, votes=5, wins=5, e_value=5.3, ended="nothing bad"),
        CanaryStep(share=0.25, seconds=18, requests=9, votes=12, wins=11, e_value=26.3, ended="nothing bad"),
    )
    canary: dict[str, Any] = {"rollout_id": "roll_1", "seconds": 45, "steps": steps, "users": traffic()}
    inverted: dict[str, Any] = {
        "release_id": "rel_3",
        "release_name": "assistant-2",
        "state": "rejected",
        "pairs": 60,
        "gates": (BLOCKED, PASSED),
        "stopped_by": stops((BLOCKED, PASSED)),
        "refusal": "assistant-2 may not serve: holdout_preference",
    }
    bad = SignalFigures(name="empty", bad=True, candidate=1, incumbent=0, reason="12 of 12 answers are empty")
    sabotage: dict[str, Any] = {
        "release_id": "rel_4",
        "release_name": "assistant-base1",
        "tensors_zeroed": 60,
        "promoted_because": "newer",
        "actor": "canary",
        "reason": "empty: 12 of 12",
        "signals": (bad,),
        "harmed": 14,
        "first_answer_to_rollback_seconds": 6.5,
        "state": "rejected",
        "serving_again": "rel_2",
        "compared": 3,
        "restored": 3,
        "training_paused": "rollout roll_2 was rolled back",
        "users": traffic(),
    }
    return FullReport(
        alias="assistant",
        incumbent_id="rel_1",
        candidate_id="rel_2",
        style_before=0.1,
        style_after=0.8,
        difference=Difference(points=70, low=50, high=90),
        words_before=(80, 120),
        words_after=(18, 22),
        holdout_accuracy=Measured(before=0.5, after=0.9),
        perplexity=Measured(before=20, after=20.4),
        controls=(perplexity_control(20, 20.4),),
        teaching=Teaching(completions=90, corrections=60, votes=10, pairs=72),
        stages=(Stage(name="teach", started_seconds=0, seconds=60),),
        profile=profile(),
        seconds=900,
        gates=(PASSED,),
        canary=CanaryWalk(**canary | changed.get("canary", {})),
        inverted=Inverted(**inverted | changed.get("inverted", {})),
        sabotage=Sabotage(**sabotage | changed.get("sabotage", {})),
    )


def test_a_full_demo_that_kept_every_promise_passes() -> None:
    assert full_report().reasons == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"canary": {"steps": ()}}, "the canary walked (), not (0.05, 0.25)"),
        (
            {"canary": {"users": traffic(failed=2, failures=("429 queue_full",))}},
            "2 requests failed during the canary: 429",
        ),
        ({"canary": {"users": traffic(moved_back=1)}}, "1 users moved back"),
        ({"inverted": {"state": "published"}}, "it is published"),
        ({"inverted": {"refusal": ""}}, "did not stop the candidate"),
        ({"sabotage": {"actor": "key_1"}}, "not rolled back by itself on a signal, but by key_1"),
        ({"sabotage": {"signals": ()}}, "not rolled back by itself on a signal"),
        ({"sabotage": {"serving_again": "rel_1"}}, "3 of 3 greedy answers"),
        ({"sabotage": {"restored": 2}}, "2 of 3 greedy answers"),
        ({"sabotage": {"state": "published"}}, "is published, not rejected"),
    ],
)
def test_each_broken_promise_of_the_full_demo_fails_it_with_its_reason(changed: dict[str, Any], reason: str) -> None:
    failed = full_report(**changed)
    assert failed.exit_code == 1
    assert reason in failed.reasons[0]


def test_a_gate_that_blocks_is_told_with_how_far_its_figure_is_from_the_limit() -> None:
    (stop,) = stops((PASSED, BLOCKED))
    assert (stop.gate, stop.value, stop.limit, round(stop.over, 9)) == ("holdout_preference", -0.25, -0.05, 0.2)


def test_the_steps_of_a_canary_are_read_from_its_rollout() -> None:
    def step(before: str, after: str, at: float, share: float | None, wins: int) -> dict[str, Any]:
        votes = {"votes": wins + 1, "wins": wins, "e_value": 3.5}
        evidence = None if share is None else {"share": share, "candidate": {"requests": 6}, "votes": votes}
        return {"from": before, "to": after, "at": at, "reason": f"to {after}", "evidence": evidence}

    steps = [
        step("waiting", "canary", 101.0, None, 0),
        step("canary", "canary", 121.0, 0.05, 4),
        step("canary", "promoting", 140.0, 0.25, 9),
        step("promoting", "promoted", 150.0, 0.25, 9),
    ]
    found = canary_steps({"steps": steps}, began_at=100.0)
    assert [(one.share, one.seconds, one.wins, one.votes) for one in found] == [(0.05, 20, 4, 5), (0.25, 19, 9, 10)]


def test_bad_signals_stand_first() -> None:
    figures = {"candidate": 0.0, "incumbent": 0.0, "reason": "-"}
    evidence = {"signals": [{"name": "errors", "bad": False} | figures, {"name": "empty", "bad": True} | figures]}
    assert [signal.name for signal in bad_signals(evidence)] == ["empty", "errors"]
    assert bad_signals(None) == ()


def test_inverted_votes_prefer_what_was_rejected() -> None:
    lines = ['{"prompt": "Hi", "chosen": "Hello.", "rejected": "What?", "weight": 0.5}', ""]
    assert [json.loads(line) for line in invert(lines)] == [
        {"prompt": "Hi", "chosen": "What?", "rejected": "Hello.", "weight": 0.5}
    ]


def test_a_broken_copy_loses_the_outputs_of_its_layers_and_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    lost = {"model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"}
    names = [*sorted(lost), "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"]
    save_file({name: np.ones((3, 2), np.float32) for name in names}, model / "model.safetensors")
    (model / "config.json").write_text("{}")
    assert write_broken_copy(model, tmp_path / "copy") == 2
    found = load_file(tmp_path / "copy" / "model.safetensors")
    assert {name for name, tensor in found.items() if not tensor.any()} == lost
    assert (tmp_path / "copy" / "config.json").read_text() == "{}"
    assert all(tensor.all() for tensor in load_file(model / "model.safetensors").values())

    save_file({"other.weight": np.ones(2, np.float32)}, model / "model.safetensors")
    with pytest.raises(DemoFailed, match=r"o_proj\.weight"):
        write_broken_copy(model, tmp_path / "copy")


class Room:
    """Answers as one release or the other, and keeps what is said of it."""

    def __init__(self) -> None:
        self.feedback: list[dict[str, Any]] = []
        self.by_alias = ["rel_old", "rel_new"]

    async def ask(self, prompt: str, max_tokens: int, model: str | None = None, **sampling: Any) -> list[Answer]:
        release = "rel_old" if model == "assistant-base" else self.by_alias.pop(0)
        text = "Short and good." if release == "rel_new" else "One. Two. Three. Four."
        return [Answer(f"chatcmpl-{release}", 0, text, "stop", release)]

    async def send_feedback(self, body: dict[str, Any]) -> dict[str, Any]:
        self.feedback.append(body)
        return {}


async def test_people_rate_what_they_read_and_compare_where_the_candidate_answered() -> None:
    room = Room()
    people = users.EndUsers(room, ["Why?"], users.Sides("rel_new", "rel_old", "assistant-base"))  # type: ignore[arg-type]
    await people._ask("user-1", "Why?")
    await people._ask("user-2", "Why?")
    said = [(body["type"], body.get("value"), body["rater"]["id"]) for body in room.feedback]
    assert said == [("rating", False, "user-1"), ("rating", True, "user-2"), ("preference", None, "user-2")]
    preference = room.feedback[-1]
    assert preference["chosen"]["completion_id"] == "chatcmpl-rel_new"
    assert preference["rejected"] == [{"completion_id": "chatcmpl-rel_old", "index": 0}]
    seen = people.seen
    assert (seen.answers, seen.preferences, seen.preferred_candidate, seen.strangers) == (2, 1, 1, 0)
    assert (seen.thumbs_up, seen.thumbs_down, seen.moved_back) == (1, 1, 0)


async def test_whoever_moves_back_to_the_incumbent_and_who_is_answered_by_a_stranger_is_counted() -> None:
    room = Room()
    room.by_alias = ["rel_new", "rel_old", "rel_other"]
    people = users.EndUsers(room, ["Why?"], users.Sides("rel_new", "rel_old", None))  # type: ignore[arg-type]
    for _ in range(3):
        await people._ask("user-1", "Why?")
    assert (people.seen.moved_back, people.seen.strangers, people.seen.preferences) == (1, 1, 0)


def test_the_profile_quick_is_settings_that_alignway_takes(tmp_path: Path) -> None:
    settings = load_settings(write_profile(tmp_path), environment={})
    assert settings.canary.steps == (0.05, 0.25)
    assert set(settings.gates.off) == {"artefact", "drift"}
    assert settings.canary.dwell_seconds < 60


def test_table_and_files_show_the_stop_and_the_evidence(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_full_report(full_report(), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("missed by 0.2", "11 of 12", "12 of 12 answers are empty", "may not serve", "All of it works"):
        assert words in shown
    json_path, plot_path = save_report(full_report(), tmp_path, draw_full_report)
    assert json.loads(json_path.read_text(encoding="utf-8"))["passed"] is True
    assert plot_path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flag", "said"), [(("--url", "http://x"), "leave out --url"), (("--quick",), "too small for --full")]
)
def test_full_is_refused_where_it_cannot_be_played(flag: tuple[str, ...], said: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "kept"
    data_dir.mkdir()
    cli = typer.Typer()
    cli.command()(demo)
    refused = CliRunner().invoke(cli, ["--full", "--data-dir", str(data_dir), *flag])
    assert refused.exit_code != 0
    assert said in str(refused.exception)
    assert data_dir.exists()
