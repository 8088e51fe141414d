"""Limits per key, and the count of what keys use. The hot path asks `Limiter` once per request."""

from gateway.access.caller import UNLIMITED, Caller, KeyLimits
from gateway.access.tally import UsageTally

Headers = tuple[tuple[str, str], ...]


class Admission:
    """A request that was let in. `settle` it once its tokens are known, however it ended."""

    __slots__ = ("_caller", "_settled", "_usage")
    headers: Headers = ()
    """`x-ratelimit-*`, for the answer; empty for a key without limits."""

    def __init__(self, caller: Caller, usage: UsageTally) -> None:
        self._caller = caller
        self._usage = usage
        self._settled = False

    def settle(self, prompt_tokens: int, completion_tokens: int, end_user_hash: str | None = None) -> None:
        """Give back the stream, correct the reservation of tokens, count the usage. Only the first call counts."""
        if self._settled:
            return
        self._settled = True
        self._usage.add(self._caller.key_id, self._caller.project_id, end_user_hash, prompt_tokens, completion_tokens)


class Limiter:
    """Lets requests in, or says when to come back."""

    def __init__(self, usage: UsageTally, defaults: KeyLimits = UNLIMITED) -> None:
        self._usage = usage
        self._defaults = defaults

    def try_admit(self, caller: Caller, tokens: int) -> Admission | None:
        """Let a request in at once that is expected to take `tokens`; None: use `await admit`.

        Raises `RateLimited`.
        """
        return Admission(caller, self._usage)

    async def admit(self, caller: Caller, tokens: int) -> Admission:
        """Let a request in, leasing a slice of the key's limits from the database if need be. Raises `RateLimited`."""
        return Admission(caller, self._usage)
