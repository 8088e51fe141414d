"""The service as the demo sees it: the openai SDK for everything, operators' routes through its generic calls."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from gateway.demo.answer import Answer
from gateway.errors import AlignwayError

Advance = Callable[[float], None]
"""Told how much further a stage has come; the unit is the stage's own."""

POLL_SECONDS = 0.5


class DemoFailed(AlignwayError):
    """The demo could not be played to its end."""

    code = "demo_failed"


class Service:
    """One running gateway, one alias, one admin key."""

    def __init__(self, base_url: str, api_key: str, alias: str, request_timeout_seconds: float = 180.0) -> None:
        root = base_url.rstrip("/").removesuffix("/v1")
        self.alias = alias
        self.client = AsyncOpenAI(base_url=f"{root}/v1", api_key=api_key, timeout=request_timeout_seconds)
        # A retry would hide a dropped request, and start a second run.
        self.unretried = self.client.with_options(max_retries=0)
        self._admin = self.client.with_options(base_url=f"{root}/admin/v1", max_retries=0)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def ask(
        self, prompt: str, max_tokens: int, *, model: str | None = None, retried: bool = True, **sampling: Any
    ) -> list[Answer]:
        """All choices of one completion, by the alias unless a release is named."""
        client = self.client if retried else self.unretried
        completion: ChatCompletion = await client.chat.completions.create(
            model=model or self.alias,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            **sampling,
        )
        return [
            Answer(
                completion_id=completion.id,
                index=choice.index,
                text=choice.message.content or "",
                finish_reason=choice.finish_reason,
                release_id=completion.system_fingerprint,
            )
            for choice in completion.choices
        ]

    async def send_feedback(self, body: dict[str, Any]) -> dict[str, Any]:
        """Say what an annotator thinks; the reply lists the pairs it made."""
        return as_object(await self.client.post("/feedback", body=body, cast_to=object))

    async def get(self, path: str) -> dict[str, Any]:
        """Read an operators' route."""
        return as_object(await self._admin.get(path, cast_to=object))

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Call an operators' route."""
        return as_object(await self._admin.post(path, body=body, cast_to=object))

    async def wait_for_run(self, run_id: str, timeout_seconds: float, advance: Advance) -> dict[str, Any]:
        """The training run once it succeeded; `advance` gets its progress from 0 to 1."""
        done, failed = {"succeeded"}, {"failed", "cancelled"}
        return await self._wait(f"/runs/{run_id}", "status", done, failed, timeout_seconds, advance)

    async def wait_for_rollout(self, rollout_id: str, timeout_seconds: float, advance: Advance) -> dict[str, Any]:
        """The rollout once it is promoted."""
        done, failed = {"promoted"}, {"rolled_back", "stopped"}
        return await self._wait(f"/rollouts/{rollout_id}", "state", done, failed, timeout_seconds, advance)

    async def _wait(
        self, path: str, field: str, done: set[str], failed: set[str], timeout_seconds: float, advance: Advance
    ) -> dict[str, Any]:
        reached, deadline = 0.0, time.monotonic() + timeout_seconds
        while (found := await self.get(path)).get(field) not in done:
            if found.get(field) in failed:
                raise DemoFailed(f"{path} ended as {found.get(field)}: {_cause(found)}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{path} is still {found.get(field)} after {timeout_seconds:g} s")
            progress = float(found.get("progress") or 0.0)
            advance(max(0.0, progress - reached))
            reached = max(reached, progress)
            await asyncio.sleep(POLL_SECONDS)
        advance(1.0 - reached)
        return found


def as_object(reply: object) -> dict[str, Any]:
    """The JSON object that a route answered with."""
    if not isinstance(reply, dict):
        raise DemoFailed(f"expected a JSON object from the service, got: {str(reply)[:200]}")
    return reply


def explain(error: openai.OpenAIError) -> str:
    """One line about an error of the SDK."""
    return f"{type(error).__name__}: {error}"[:300]


def only_release(answers: Sequence[Answer]) -> str:
    """The one release that wrote all these answers."""
    found = {answer.release_id for answer in answers}
    if len(found) != 1 or None in found:
        raise DemoFailed(f"these answers should all name one release as system_fingerprint, but name {found}")
    return str(found.pop())


def _cause(found: dict[str, Any]) -> Any:
    return found.get("error") or found.get("detail") or "no reason was given"
