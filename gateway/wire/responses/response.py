"""The `response` object around what a model wrote: what was asked, how it ended, what it cost. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.wire.responses.request import ResponsesRequest

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of a text that was cut, in this route's words."""


def response_head(request: ResponsesRequest, response_id: str, created: int, model: str) -> dict[str, Any]:
    """A response that has begun: everything the client asked for is said again."""
    asked_format = request.text.format
    written = {"type": "text"} if asked_format is None else asked_format.model_dump(by_alias=True, exclude_none=True)
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": request.reasoning.effort, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "temperature": request.temperature,
        "text": {"format": written},
        "tool_choice": request.tool_choice or "auto",
        "tools": [{"parameters": None, "strict": None} | tool for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
    }


def ended_response(
    head: dict[str, Any], output: Sequence[dict[str, Any]], finish_reason: str | None, usage: Any, at: int
) -> dict[str, Any]:
    """The response once its text has ended, completed or cut."""
    ended = head | {"status": "completed", "output": list(output), "usage": response_usage(usage)}
    if finish_reason in INCOMPLETE:
        return ended | {"status": "incomplete", "incomplete_details": {"reason": INCOMPLETE[finish_reason]}}
    return ended | {"completed_at": at}


def failed_response(head: dict[str, Any], output: Sequence[dict[str, Any]], message: str) -> dict[str, Any]:
    """The response that broke off."""
    return head | {"status": "failed", "output": list(output), "error": {"code": "server_error", "message": message}}


def response_usage(usage: Any) -> dict[str, Any]:
    """A chat completion's usage in this route's words."""
    given = usage if isinstance(usage, dict) else {}
    cached = (given.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (given.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": given.get("prompt_tokens") or 0,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": given.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given.get("total_tokens") or 0,
    }
