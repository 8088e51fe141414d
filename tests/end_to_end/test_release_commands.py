"""`alignway releases add|promote|prune|pin` beside a running gateway, as an operator types them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.commands.releases import app
from gateway.rollout.disk import NotEnoughDisk
from tests.adapters import write_base
from tests.stack import Stack, running, stack_settings, write_weights


async def printed(stack: Stack, *words: str) -> str:
    """What a command prints."""
    done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--data-dir", str(stack.settings.data_dir)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


async def typed(stack: Stack, *words: str) -> Any:
    """The same as JSON."""
    return json.loads(await printed(stack, *words, "--json"))


async def said(stack: Stack) -> set[str]:
    answer = await stack.ask()
    return {word for word in answer.choices[0].message.content.split() if word.isupper()}


async def test_another_base_model_is_added_promoted_and_rolled_back(tmp_path: Path) -> None:
    write_base(tmp_path / "model")
    write_base(tmp_path / "renewed")
    write_weights(tmp_path / "renewed", "RENEWED")
    async with running(stack_settings(tmp_path)) as stack:
        where = ("--model", str(tmp_path / "renewed"), "--alias", "assistant")
        added = await typed(stack, "add", *where, "--reason", "a newer snapshot")
        assert (added["kind"], added["state"]) == ("base", "published")
        status, refused = await stack.call("POST", "/admin/v1/aliases/assistant/promote", {"release": added["id"]})
        assert (status, refused["error"]["code"]) == (400, "reason_required")
        ended = await typed(stack, "promote", added["name"], "--reason", "tried by hand")
        assert ended["state"] == "promoted", ended
        assert await said(stack) == {"RENEWED"}
        _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
        assert alias["base_release"] == added["id"]
        assert (await typed(stack, "rollback"))["state"] == "promoted"
        assert await said(stack) == {"BASE"}


async def test_old_releases_are_pruned_and_a_full_disk_refuses_a_promotion(tmp_path: Path) -> None:
    async with running(stack_settings(tmp_path, releases={"keep": 9})) as stack:
        made = [await stack.make_release(f"R{number}") for number in range(5)]
        for release in made[:2]:
            assert (await stack.ended((await stack.promote(release.id))["id"]))["state"] == "promoted"
        assert "is pinned" in await printed(stack, "pin", made[2].name)
        would = await typed(stack, "prune", "--keep", "1", "--dry-run")
        assert [one["name"] for one in would["releases"]] == [made[3].name]
        assert (stack.settings.store_path / made[3].location / "merged").is_dir()
        done = await typed(stack, "prune", "--keep", "1")
        assert done["releases"] == would["releases"]
        assert done["freed_bytes"] > 0
        assert not (stack.settings.store_path / made[3].location / "merged").exists()
        status, refused = await stack.call("POST", "/admin/v1/aliases/assistant/promote", {"release": made[3].id})
        assert (status, refused["error"]["code"]) == (409, "release_pruned")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ALIGNWAY_RELEASES__MIN_FREE_DISK_MIB", str(1 << 40))
            with pytest.raises(NotEnoughDisk, match="alignway releases prune"):
                await printed(stack, "promote", made[4].name)
        assert await said(stack) == {"R1"}
