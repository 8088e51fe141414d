"""Two acts of the full demo against the real gateway, agent and reconciler; a scripted engine plays the releases."""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from gateway.demo.full.command import Shell
from gateway.demo.full.play import profile
from gateway.demo.full.sabotage import Broken, promote_broken_release
from gateway.demo.full.trial import walk_canary
from gateway.demo.player import DemoSettings, Player, Stages
from gateway.demo.service import Service
from tests.stack import ADMIN_KEY, Stack, stack_settings

SHORT_STEPS = {"dwell_seconds": 0.5, "dwell_requests": 3, "look_seconds": 0.2, "steps": [0.2, 0.5]}
LOOPING = " ".join(["again"] * 40)


async def test_people_carry_a_canary_to_all_traffic_and_a_looping_release_is_taken_back_by_itself(
    tmp_path: Path,
) -> None:
    settings = stack_settings(tmp_path, canary=profile()["canary"] | SHORT_STEPS)
    stack = Stack(settings, base_marker="Long. Longer. Longest.")
    small = dataclasses.replace(DemoSettings(), unseen=2, fixed=2, concurrency=1)
    shell = Shell(settings.data_dir, tmp_path / "alignway.toml")
    try:
        await stack.start()
        service = Service(stack.url, ADMIN_KEY, "assistant")
        player = Player(service, small, Stages(Progress(console=Console(quiet=True))))
        short, looping = await stack.make_release("short"), await stack.make_release(LOOPING)
        assert short.parent_id is not None
        base, candidate = await player.release(short.parent_id), await player.release(short.id)

        canary = await walk_canary(player, shell, base, candidate, timeout_seconds=60)
        assert [step.share for step in canary.steps] == [0.2, 0.5]
        assert canary.steps[-1].votes == canary.steps[-1].wins > 0
        people = canary.users
        assert (people.failed, people.strangers, people.moved_back) == (0, 0, 0), people.failures
        assert people.preferred_candidate == people.preferences >= canary.steps[-1].votes

        old = await player.ask("ask, after")
        broken = Broken(await player.release(looping.id), zeroed=0)
        sabotage = await promote_broken_release(player, shell, broken, old, timeout_seconds=60)
        await service.close()
    finally:
        await stack.stop()
    assert (sabotage.actor, sabotage.state, sabotage.serving_again) == ("canary", "rejected", short.id)
    assert [signal.name for signal in sabotage.signals if signal.bad] == ["looping"]
    assert (sabotage.compared, sabotage.restored) == (2, 2)
    assert sabotage.harmed >= 12  # canary.answer_min_requests
    assert "looping" in sabotage.training_paused
