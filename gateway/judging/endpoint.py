"""Asks an OpenAI-compatible endpoint which of two answers is better, both ways round."""

from collections.abc import Sequence
from typing import Any

import aiohttp

from gateway.contracts.message import Message
from gateway.judging.judgement import Outcome, combined, prompt_text, question
from gateway.sections.annotation import JudgeSettings


class JudgeFailed(Exception):
    """The endpoint gave no reply."""


class JudgeEndpoint:
    """The model that `[judge]` names."""

    def __init__(self, settings: JudgeSettings, guideline: str, api_key: str | None = None) -> None:
        self._settings, self._guideline = settings, guideline
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}

    def session(self) -> aiohttp.ClientSession:
        """What `compare` is given; to be closed by whoever opened it."""
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
        return aiohttp.ClientSession(headers=self._headers, timeout=timeout)

    async def compare(
        self, http: aiohttp.ClientSession, prompt: Sequence[Message], first: str, second: str
    ) -> tuple[Outcome, str | None]:
        """What the judge says of two answers, each once on the left. Raises `JudgeFailed`."""
        first_left = await self._ask(http, prompt, first, second)
        second_left = await self._ask(http, prompt, second, first)
        return combined(first_left, second_left)

    async def _ask(self, http: aiohttp.ClientSession, prompt: Sequence[Message], left: str, right: str) -> str:
        judge = self._settings
        asked = question(judge.prompt, guideline=self._guideline, prompt=prompt_text(prompt), left=left, right=right)
        body: dict[str, Any] = {"model": judge.model, "messages": [{"role": "user", "content": asked}]}
        body |= {"temperature": 0} | ({"max_tokens": judge.max_tokens} if judge.max_tokens else {})
        try:
            async with http.post(f"{(judge.base_url or '').rstrip('/')}/chat/completions", json=body) as response:
                if response.status != 200:
                    raise JudgeFailed(f"status {response.status}")
                reply = await response.json(content_type=None)
            return str(reply["choices"][0]["message"]["content"] or "")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError) as error:
            raise JudgeFailed(type(error).__name__) from error
