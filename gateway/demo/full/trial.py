"""The candidate's way to all traffic: a canary with people on it, share by share, until it is promoted."""

import asyncio
import time
from typing import Any

from gateway.demo.full.command import Shell
from gateway.demo.full.report import CanaryWalk, canary_steps
from gateway.demo.full.users import EndUsers, Sides
from gateway.demo.player import Player
from gateway.demo.service import POLL_SECONDS, DemoFailed

REASON = "short answers, as people asked for; few held-out pairs are fine for a demo"


async def walk_canary(
    player: Player, shell: Shell, incumbent: dict[str, Any], candidate: dict[str, Any], timeout_seconds: float
) -> CanaryWalk:
    """Promote by canary while people ask and vote; returns how it went, once the candidate has all traffic."""
    service, name = player.service, candidate["name"]
    users = EndUsers(service, player.teaching, Sides(candidate["id"], incumbent["id"], incumbent["name"]))
    doing = (
        "Canary: a twentieth of the people get the candidate, then a quarter, then all. Who gets it sees both answers "
        "and votes."
    )
    typed = (
        shell.typed("releases", "promote", name, "--strategy", "canary", "--reason", f'"{REASON}"'),
        shell.typed("releases", "rollout"),
    )
    with player.stages.stage("canary with votes", 1.0, doing, typed) as advance:
        began, began_at = time.monotonic(), time.time()
        body = {"release": name, "strategy": "canary", "expected_current": incumbent["id"], "reason": REASON}
        rollout = await service.post(f"/aliases/{service.alias}/promote", body)
        async with users.asking():
            ended = await _follow(player, str(rollout["id"]), timeout_seconds, users)
        advance(1.0)
    return CanaryWalk(
        rollout_id=ended["id"],
        seconds=time.monotonic() - began,
        steps=canary_steps(ended, began_at),
        users=users.seen,
    )


async def _follow(player: Player, rollout_id: str, timeout_seconds: float, users: EndUsers) -> dict[str, Any]:
    """The rollout once it is promoted, told of whenever something changes."""
    told, deadline = "", time.monotonic() + timeout_seconds
    while True:
        found = await player.service.get(f"/rollouts/{rollout_id}")
        if (now := _standing(found)) != told:
            told = now
            player.stages.tell(f"  {now}  [{users.seen.answers} answers so far]")
        if found["state"] == "promoted":
            return found
        if found["state"] in ("stopped", "rolled_back"):
            raise DemoFailed(f"the canary ended as {found['state']}: {found['detail']}")
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"the canary was not over within {timeout_seconds:g} s: {_waits_for(found)}. "
                "If the machine is busy, play the demo again when it is not."
            )
        await asyncio.sleep(POLL_SECONDS)


def _standing(found: dict[str, Any]) -> str:
    if found["state"] != "canary":
        return f"{found['state']}: {found['detail']}"
    if not found["canary"]:
        return "the engine takes the adapter"
    return f"canary at {found['share']:.0%}" + (f": {found['detail']}" if found["step"] else "")


def _waits_for(found: dict[str, Any]) -> str:
    return str(found["canary"]["reason"] if found["canary"] else found["detail"])
