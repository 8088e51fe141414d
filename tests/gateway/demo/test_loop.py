"""The driver against a stand-in on loopback; the real gateway is driven in tests/end_to_end."""

import dataclasses
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from gateway.demo.loop import play_demo
from gateway.demo.player import QUICK, DemoSettings
from gateway.demo.prompts import load_prompts
from gateway.demo.report import DemoReport
from gateway.demo.service import DemoFailed

SMALL = DemoSettings(unseen=12, pairs=30, fixed=3, settle_seconds=0.0, swap_timeout_seconds=20.0)


async def play(fake: Any, settings: DemoSettings = SMALL, key: str = "an-admin-key-for-tests") -> DemoReport:
    with Progress(console=Console(quiet=True)) as progress:
        return await play_demo(f"{fake.base_url}/v1/", key, "assistant", settings, progress)


async def test_the_whole_loop_is_played_and_passes(fake_gateway):
    report = await play(fake_gateway)
    assert report.reasons == ()
    assert (report.style_before, report.style_after, report.difference.points) == (0, 1, 100)
    assert (report.incumbent_id, report.candidate_id) == ("rel_incumbent", "rel_candidate")
    assert (report.holdout_accuracy.before, report.holdout_accuracy.after) == (0.5, 0.9)
    assert (report.rollback.restored, report.rollback.compared) == (3, 3)
    assert report.teaching.pairs >= 30
    assert {stage.name for stage in report.stages} >= {"ask, before", "teach", "train and evaluate", "roll back"}


async def test_the_service_is_called_as_its_routes_say(fake_gateway):
    await play(fake_gateway)
    retrain, promote, rollback = fake_gateway.calls
    assert retrain == ("retrain", {"alias": "assistant"})
    body = {"release": "rel_candidate", "strategy": "immediate", "expected_current": "rel_incumbent", "reason": "demo"}
    assert promote == ("aliases/assistant/promote", body)
    assert rollback == ("aliases/assistant/rollback", {"reason": "demo"})


async def test_teaching_sends_votes_and_corrections_of_teaching_prompts_only(fake_gateway):
    report = await play(fake_gateway)
    kinds = [body["type"] for body in fake_gateway.feedback]
    assert (kinds.count("preference"), kinds.count("correction")) == (
        report.teaching.votes,
        report.teaching.corrections,
    )
    assert kinds.count("preference") in range(3, 11)  # a sixth of some forty
    corrected = [body["message"]["content"] for body in fake_gateway.feedback if body["type"] == "correction"]
    subjects = [prompt.replace(".", "").replace("?", "") for prompt in load_prompts().unseen]
    assert not any(subject in text for subject in subjects for text in corrected)


async def test_streams_see_both_releases_and_each_answer_names_one(fake_gateway):
    streams = (await play(fake_gateway)).streams
    assert (streams.streams, streams.failed, streams.mixed) == (4, 0, 0)
    assert set(streams.by_release) == {"rel_incumbent", "rel_candidate"}
    assert sum(streams.by_release.values()) == streams.answers
    assert streams.max_stall_seconds >= 0.005  # the stand-in waits so long between two chunks


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("breaks", "without a finish_reason"), ("mixes", "mixed releases"), ("rollback fails", "0 of 3 greedy answers")],
)
async def test_what_breaks_in_the_service_is_in_the_verdict(fake_gateway, fault, reason):
    fake_gateway.faults.add(fault)
    report = await play(fake_gateway)
    assert report.exit_code == 1
    assert any(reason in found for found in report.reasons)


async def test_missing_metrics_fail_the_control_that_needs_them(fake_gateway):
    fake_gateway.metrics = {}
    report = await play(fake_gateway)
    assert report.reasons == ("control failed: perplexity rise was not measured (limit 0.05)",)


async def test_a_failed_run_ends_the_demo_with_its_cause(fake_gateway):
    fake_gateway.faults.add("training fails")
    with pytest.raises(DemoFailed, match="out of memory"):
        await play(fake_gateway)


async def test_a_wrong_key_is_told_plainly(fake_gateway):
    with pytest.raises(DemoFailed, match="no such key"):
        await play(fake_gateway, key="wrong")


async def test_a_refused_promotion_ends_the_demo_and_its_streams(fake_gateway, monkeypatch):
    monkeypatch.setattr("gateway.demo.loop.only_release", lambda answers: "rel_unknown")
    with pytest.raises(DemoFailed, match="the incumbent is another"):
        await play(fake_gateway)


async def test_more_unseen_prompts_than_there_are_is_refused(fake_gateway):
    with pytest.raises(DemoFailed, match="unseen prompts"):
        await play(fake_gateway, dataclasses.replace(SMALL, unseen=1000))


def test_the_quick_demo_is_smaller_in_every_way():
    full = DemoSettings()
    assert (full.unseen, QUICK.unseen < full.unseen, QUICK.pairs < full.pairs) == (48, True, True)
