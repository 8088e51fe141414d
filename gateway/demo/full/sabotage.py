"""A broken release that a person lets past the gates, and that the live signals take back without a person."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.demo.answer import Answer
from gateway.demo.full.broken import write_broken_copy
from gateway.demo.full.command import Shell
from gateway.demo.full.report import Sabotage, bad_signals
from gateway.demo.full.users import EndUsers, Sides
from gateway.demo.player import Player
from gateway.demo.service import POLL_SECONDS, DemoFailed
from gateway.settings import DEFAULT_MODEL

REASON = "a newer conversion of the same model"
FOLDER = "converted-again"


@dataclass(frozen=True)
class Broken:
    """The release that is no good."""

    release: dict[str, Any]
    zeroed: int


async def add_broken_release(player: Player, shell: Shell) -> Broken:
    """Convert the model badly, and register it as a release. Its quality is not measured: a person vouches for it."""
    folder, alias = shell.data_dir / FOLDER, player.service.alias
    words = ("releases", "add", "--model", str(folder), "--alias", alias, "--reason", REASON)
    doing = (
        "Sabotage: the base model is converted again, and the outputs of its layers are lost. Files, names, shapes and "
        "checksums are sound; its quality is not measured, and somebody vouches for it."
    )
    typed = (shell.typed(*words[:-1], f'"{REASON}"'),)
    with player.stages.stage("add a broken release", 1.0, doing, typed):
        zeroed = await asyncio.to_thread(write_broken_copy, await shell.model_folder(DEFAULT_MODEL), folder)
        return Broken(await shell.run(*words), zeroed)


async def promote_broken_release(
    player: Player, shell: Shell, broken: Broken, old_answers: Sequence[Answer], timeout_seconds: float
) -> Sabotage:
    """Promote it under traffic, wait until it is taken back by itself, and see that the old answers are there."""
    service, release = player.service, broken.release
    aligned_id = str(old_answers[0].release_id)
    users = EndUsers(service, player.teaching, Sides(release["id"], aligned_id, None))
    doing = "It is promoted at once, past the gates. People go on asking, and nobody touches anything."
    typed = (shell.typed("releases", "promote", release["name"], "--reason", f'"{REASON}"'),)
    with player.stages.stage("rolled back by itself", 1.0, doing, typed) as advance:
        body = {"release": release["id"], "strategy": "immediate", "expected_current": aligned_id, "reason": REASON}
        promotion = await service.post(f"/aliases/{service.alias}/promote", body)
        async with users.asking():
            taken_back = await _until_taken_back(player, str(promotion["id"]), release["id"], timeout_seconds)
            seconds = users.seconds_since_first(release["id"])
            player.stages.tell(f"  taken back by {_ended_by(taken_back)}: {_reason_of(taken_back)}")
            if taken_back["kind"] == "rollback":
                await service.wait_for_rollout(taken_back["id"], timeout_seconds, advance)
        restored = await _restored(player, old_answers)
    alias = await service.get(f"/aliases/{service.alias}")
    return Sabotage(
        release_id=release["id"],
        release_name=release["name"],
        tensors_zeroed=broken.zeroed,
        promoted_because=REASON,
        actor=_ended_by(taken_back),
        reason=_reason_of(taken_back),
        signals=bad_signals(taken_back["evidence"]),
        harmed=users.seen.by_release.get(release["id"], 0),
        first_answer_to_rollback_seconds=seconds,
        state=str((await player.release(release["id"]))["state"]),
        serving_again=str(alias["serving_release"]),
        compared=len(old_answers),
        restored=restored,
        training_paused=str(alias["auto_training_paused_reason"] or ""),
        users=users.seen,
    )


async def _until_taken_back(
    player: Player, promotion_id: str, release_id: str, timeout_seconds: float
) -> dict[str, Any]:
    """The rollout that took the release back: its promotion, if that was still under way, or a rollback."""
    told, deadline = "", time.monotonic() + timeout_seconds
    while True:
        promotion = await player.service.get(f"/rollouts/{promotion_id}")
        if promotion["state"] != told:
            told = promotion["state"]
            player.stages.tell(f"  {told}: {promotion['detail']}")
        if told in ("rolled_back", "stopped"):
            return promotion
        listed = await player.service.get(f"/rollouts?alias={player.service.alias}")
        for rollout in listed["data"]:
            if rollout["kind"] == "rollback" and rollout["incumbent"] == release_id:
                return dict(rollout)
        if time.monotonic() > deadline:
            signals = bad_signals(promotion["evidence"])
            shown = "; ".join(f"{signal.name}: {signal.reason}" for signal in signals) or "nothing was measured yet"
            raise DemoFailed(f"the broken release still serves after {timeout_seconds:g} s. Its signals: {shown}")
        await asyncio.sleep(POLL_SECONDS)


def _ended_by(rollout: dict[str, Any]) -> str:
    """Who took the release back: a rollback is somebody's, a promotion that failed was ended in its last step."""
    return str(rollout["actor"] if rollout["kind"] == "rollback" else rollout["steps"][-1]["actor"])


def _reason_of(rollout: dict[str, Any]) -> str:
    return str(rollout["reason"] if rollout["kind"] == "rollback" else rollout["detail"])


async def _restored(player: Player, old_answers: Sequence[Answer]) -> int:
    """How many of the old answers are back, asked until all are or it took too long."""
    deadline = time.monotonic() + player.settings.settle_seconds
    while (restored := await player.count_restored(old_answers)) < len(old_answers) and time.monotonic() < deadline:
        await asyncio.sleep(1.0)
    return restored
