"""What is wrong with the chat request, told in the words of `POST /v1/responses`. Pure."""

import re

from gateway.errors import AlignwayError

NAMES = (
    (r"max_completion_tokens|max_tokens", "max_output_tokens"),
    (r"messages\b.*", "input"),
    (r"response_format\.json_schema\b|response_format\b", "text.format"),
    (r"reasoning_effort", "reasoning.effort"),
    (r"(tools\[\d+\])\.function\b", r"\1"),
    (r"tool_choice\.function\b", "tool_choice"),
)
"""What this route calls a parameter of the chat request. Which item a message came from is not told."""


def put_in_own_words(error: AlignwayError) -> None:
    """Name the parameter as the client named it."""
    if error.param is not None:
        renamed = _renamed(error.param)
        error.message = error.message.replace(f"`{error.param}`", f"`{renamed}`")
        error.param = renamed


def _renamed(param: str) -> str:
    for pattern, name in NAMES:
        if re.match(pattern, param):
            return re.sub(f"^(?:{pattern})", name, param, count=1)
    return param
