"""What becomes of every field of OpenAI's chat request, in one table.

The tests hold it against the openai SDK's types, the code against the table; `docs/make_fields.py` prints it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

FORWARDED, HANDLED, REFUSED = "forwarded", "handled", "refused"


class Decision(NamedTuple):
    """What becomes of a field, and why; `neutral`: values of a refused field that ask for nothing and are taken."""

    kind: str
    note: str
    neutral: tuple[Any, ...] = ()


def _forwarded(note: str = "") -> Decision:
    return Decision(FORWARDED, note)


def _handled(note: str) -> Decision:
    return Decision(HANDLED, note)


def _refused(note: str, *neutral: Any) -> Decision:
    return Decision(REFUSED, note, neutral)


CACHING = "a hint; engines cache prompts by themselves"

FIELDS: Mapping[str, Decision] = {
    "audio": _refused("models here write text alone; leave it out"),
    "frequency_penalty": _forwarded("-2 to 2"),
    "function_call": _refused("it is deprecated; use `tool_choice`", "none"),
    "functions": _refused("it is deprecated; use `tools`", []),
    "logit_bias": _forwarded("token ids to -100 to 100; at most `surface.max_logit_bias`"),
    "logprobs": _forwarded(),
    "max_completion_tokens": _forwarded("1 or more; equal to `max_tokens` where both are given"),
    "max_tokens": _forwarded("1 or more"),
    "messages": _forwarded("cleaned; see below"),
    "metadata": _handled("stored; at most 16 texts of 512 characters under keys of 64"),
    "modalities": _refused("models here write text alone; leave it out", ["text"]),
    "model": _handled("an alias; decides which release answers"),
    "moderation": _refused("nothing is moderated here; leave it out"),
    "n": _forwarded("1 to `surface.max_choices`"),
    "parallel_tool_calls": _forwarded("dropped without `tools`"),
    "prediction": _refused("engines predict by themselves; leave it out"),
    "presence_penalty": _forwarded("-2 to 2"),
    "prompt_cache_key": _handled("requests with the same key go to the same replica where possible"),
    "prompt_cache_options": _handled(CACHING),
    "prompt_cache_retention": _handled(CACHING),
    "reasoning_effort": _forwarded("`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`"),
    "response_format": _forwarded("`text`, `json_object`, `json_schema`; schemas within `surface.max_schema_bytes`"),
    "safety_identifier": _handled("whom the client asks for; stored as a keyed hash"),
    "seed": _forwarded("64 bits"),
    "service_tier": _refused("there is one tier; leave it out", "auto", "default"),
    "stop": _forwarded("a text or a list; at most `surface.max_stops`"),
    "store": _handled("`false`: the completion is not stored, and cannot be voted on"),
    "stream": _handled("whether the answer comes in chunks"),
    "stream_options": _handled("with `stream`: `include_usage`; `include_obfuscation` is taken, nothing is padded"),
    "temperature": _forwarded("0 to 2"),
    "tool_choice": _forwarded("`none`, `auto`, `required`, a function, or `allowed_tools` (told alone)"),
    "tools": _forwarded("functions; at most `surface.max_tools`"),
    "top_logprobs": _forwarded("0 to 20, with `logprobs`"),
    "top_p": _forwarded("more than 0, up to 1"),
    "user": _handled("whom the client asks for, unless `safety_identifier` says it"),
    "verbosity": _refused("say in a message how long the answer should be", "medium"),
    "web_search_options": _refused("nothing is searched here; give the model a tool of yours in `tools`"),
}
"""The fields of the request itself."""

EXTENSION_FIELDS: Mapping[str, Decision] = {
    "chat_template_kwargs": _forwarded("texts, numbers, booleans under the keys of `surface.template_arguments`"),
    "min_p": _forwarded("0 to 1"),
    "repetition_penalty": _forwarded("more than 0, up to 10"),
    "top_k": _forwarded("-1 or more"),
}
"""Not OpenAI's; taken unless `surface.extensions = "strict"`."""

ECHO = "echoed from an earlier answer; taken, goes no further"
STORED_ECHO = "echoed from an earlier answer; stored, not forwarded"

MESSAGE_FIELDS: Mapping[str, Decision] = {
    "system.content": _forwarded("a text, or parts of text"),
    "system.name": _forwarded(),
    "developer.content": _forwarded("a text, or parts of text"),
    "developer.name": _forwarded(),
    "user.content": _forwarded("a text, or parts of text and images"),
    "user.name": _forwarded(),
    "assistant.content": _forwarded("a text, or parts of text and refusals"),
    "assistant.name": _forwarded(),
    "assistant.tool_calls": _forwarded("functions alone"),
    "assistant.refusal": _handled(ECHO),
    "assistant.annotations": _handled(ECHO),
    "assistant.parsed": _handled(ECHO),
    "assistant.reasoning": _handled(STORED_ECHO),
    "assistant.reasoning_content": _handled(STORED_ECHO),
    "assistant.audio": _refused("no audio is kept here; send the text of that answer in `content`"),
    "assistant.function_call": _refused("it is deprecated; use `tool_calls`"),
    "tool.content": _forwarded("a text, or parts of text"),
    "tool.tool_call_id": _forwarded(),
    "text.text": _forwarded(),
    "text.prompt_cache_breakpoint": _handled(CACHING),
    "refusal.refusal": _forwarded("as text"),
    "image_url.image_url": _forwarded("`url` and `detail`; addresses only with `surface.fetch_image_urls`"),
    "image_url.prompt_cache_breakpoint": _handled(CACHING),
}
"""The fields of messages, by role, and of their parts, by type. A field that is `null` counts as left out."""

KINDS: Mapping[str, Decision] = {
    "role:function": _refused("it is deprecated; send the role `tool` with a `tool_call_id`"),
    "content:input_audio": _refused("audio cannot be read here; send text"),
    "content:file": _refused("files cannot be read here; send their text"),
    "content:image_url": _refused("images stand in messages of the role `user`"),
    "content:refusal": _refused("refusals stand in messages of the role `assistant`"),
    "tools:custom": _refused("describe the tool as a `function`"),
    "tool_calls:custom": _refused("describe the tool as a `function`"),
    "tool_choice:custom": _refused("name a `function`"),
}
"""Roles and types that OpenAI has and that are refused."""

CHOICES: Mapping[str, str] = {
    "role": "`system`, `developer`, `user`, `assistant` or `tool`",
    "reasoning_effort": "`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`",
    "tool_choice": "`none`, `auto`, `required` or a function",
    "response_format.type": "`text`, `json_object` or `json_schema`",
    "content.type": "`text`, `image_url` or `refusal`",
    "tools.type": "`function`",
    "tool_calls.type": "`function`",
    "tool_choice.type": "`function` or `allowed_tools`",
    "detail": "`auto`, `low`, `high` or `original`",
    "prompt_cache_retention": "`in_memory` or `24h`",
}
"""What may stand in a field that has few values; for error messages."""
