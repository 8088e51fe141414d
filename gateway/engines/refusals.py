"""What an engine says when it does not answer, in words of ours: the same from every engine, short, without secrets.

Engines speak nested (`{"error": {...}}`), flat (`{"message": ...}`), in plain text, and by the megabyte. Their words
name themselves, where they are, their files, their options and their requests; clients see none of that.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.engines.failures import ReleaseNotHeld, UpstreamOverloaded, UpstreamUnavailable
from gateway.errors import AlignwayError, UpstreamError, UpstreamRefused

READ_BYTES = 64_000
"""No more of a refusal is looked at."""
MESSAGE_CHARACTERS = 500
LOOKED_AT_CHARACTERS = 8_000
REFUSED = frozenset({400, 413, 422, 501})
UNAVAILABLE = frozenset({409, 503})
FIELDS = (
    "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "min_p", "top_logprobs", "logprobs", "n",
    "logit_bias", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "response_format",
    "tool_choice", "tools", "parallel_tool_calls", "reasoning_effort", "chat_template_kwargs", "messages",
    "stream_options", "stream", "model", "input", "documents", "query", "prompt", "encoding_format", "dimensions",
)  # fmt: skip
TOO_LONG = re.compile(
    r"maximum context length|context length \(|exceeds the model context|maximum model length|max_model_len"
    r"|max_(?:completion_)?tokens.{0,40}too large",
    re.IGNORECASE,
)
CONTEXT_TOKENS = re.compile(r"(?:context length is |context length \(|model length of |max_model_len=)(\d+)")
GRAMMAR = re.compile(
    r"grammar|schema|regex|response.?format|structural|guided|structured|\$ref|json|EBNF", re.IGNORECASE
)
NO_TOOLS = re.compile(r"--tool-call-parser|tool-call parser")
NO_LOGPROBS = re.compile(r"not enabled logprobs_mode")
NO_IMAGES = re.compile(r"multimodal input is not supported|not a multimodal model|At most 0 \w+\(s\)", re.IGNORECASE)
DEAD = re.compile(r"EngineCore|EngineDead|engine (?:process|loop) (?:is )?dead", re.IGNORECASE)
PYDANTIC = re.compile(r"""['"]msg['"]: (['"])(.*?)\1,""")
NAMES_A_FIELD = re.compile(rf"(?:^The |^|[`'\"]|\bin )({'|'.join(FIELDS)})\b(?!\.)")
OF_TOOL_CALLS = "Tool call arguments"
ANONYMOUS = "Internal server error"
"""All that vLLM says when a schema, such as one that refers to itself, breaks its grammar compiler."""
ADDRESSES = (
    r"\b[a-z][a-z\d+.-]*://[^\s'\"<>]*[^\s'\"<>.,;:)]",
    r"(?<=\bhost )[\w.-]+(?::\d+)?|(?<=\bhost[=:])\s*['\"]?[\w.-]+['\"]?|\blocalhost(?::\d+)?",
    r"\[[\da-f:]*:[\da-f:]*\](?::\d+)?|\b(?:\d{1,3}\.){3}\d{1,3}\b(?::\d+)?",
    r"(?<![\w:])(?:[\da-f]{0,4}:){1,7}:(?:[\da-f]{1,4}:){0,6}[\da-f]{1,4}(?:%\w+)?(?![\w:])",
    r"(?<![\w:])(?:[\da-f]{1,4}:){7}[\da-f]{1,4}(?:%\w+)?(?![\w:])",
    r"\b(?:[\w-]+\.)+[a-z][\w-]*:\d{2,5}\b|\b[a-z][a-z-]*\d+:\d{4,5}\b",
    r"\b(?:[\w-]+\.)+(?:local|internal|lan|localdomain|svc|corp|intranet|com|net|org|io|ai|cn|dev|cloud)\b(?::\d+)?",
    r"(?:(?<=\b(?:to|at|by) )|(?<=\b(?:from|peer) ))[a-z][a-z\d-]*:\d{4,5}\b",
)
"""Where an engine is: with a scheme, after the word host, as numbers, as a name with a port or under a usual domain."""
REWRITTEN = (
    (re.compile(r"^(?:Grammar error|Unsupported response format): "), ""),
    (re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: "), ""),
    (re.compile(r"(?is)\s*\b(?:traceback \(most recent call last\)|File \"[^\"]+\", line \d+).*"), ""),
    (re.compile(r"\s*\(parameter=.*\)\s*$", re.DOTALL), ""),
    (re.compile(r" at 0x[0-9a-fA-F]+"), ""),
    (re.compile(r"(?<![\w:/.#])/(?:[\w.+\-]+/)+[\w.+\-]*"), "<path>"),
    (re.compile("|".join(ADDRESSES), re.IGNORECASE), "<address>"),
    (re.compile(r"\b(?:chatcmpl|cmpl|resp|req|request)[-_](?:id[ :=]+)?[\w-]{6,}|\bsession_id \S+"), "<id>"),
    (re.compile(r"\b[\w.]*(?:vllm|lmdeploy|turbomind|xgrammar|outlines|llguidance|pydantic|jinja2)[\w./:-]*", re.I),
     "the engine"),
    (re.compile(r"\b(?:\w+\.)+(?=\w*(?:Error|Exception)\b)"), ""),
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What an engine's error says, whatever its shape."""

    text: str
    param: str | None = None
    status: int | None = None
    """The status inside an error that came in a stream."""


def refusal(status: int, body: bytes, asked_grammar: bool) -> AlignwayError:
    """The error for an engine's answer of `status`; `asked_grammar`: the request had a response format or tools."""
    said = read(body)
    if status == 404:
        return ReleaseNotHeld("The engine does not hold the model any longer, or not yet. Try again.")
    if status == 429:
        return UpstreamOverloaded("The engine has too much to do. Try again.")
    if status in UNAVAILABLE:
        return UpstreamUnavailable("The engine does not answer just now; it may be restarting. Try again.")
    if status in REFUSED or (status == 500 and asked_grammar and _is_about_grammar(said.text)):
        return _refused(said, asked_grammar)
    if status in (401, 403):
        return UpstreamError("The engine does not let the gateway in; see `engine.args` and the engine's log.")
    return UpstreamError(_ended(f"The engine failed ({status}): {rewritten(said.text)}"))


def broken_off(error: Any, asked_grammar: bool) -> AlignwayError:
    """The error for an `error` in an engine's stream. One that lies in the request is the client's, as if by status."""
    said = _said(error)
    if said.status in REFUSED or said.status == 500:
        found = refusal(said.status or 500, msgspec.json.encode(error), asked_grammar)
        if isinstance(found, UpstreamRefused):
            return found
    return UpstreamError(_ended(f"The engine broke off: {rewritten(said.text)}"))


def read(body: bytes) -> Said:
    """What an engine's error body says."""
    try:
        return _said(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said(body[:READ_BYTES].decode("utf-8", "replace")[:LOOKED_AT_CHARACTERS])


def _said(answer: Any) -> Said:
    inner = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(inner, dict):
        return Said(_text(inner))
    param, code = inner.get("param"), inner.get("code")
    message = inner.get("message", inner.get("detail", ""))
    return Said(_text(message), param if isinstance(param, str) else None, code if isinstance(code, int) else None)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8", "replace")
    return text[:LOOKED_AT_CHARACTERS]


def rewritten(text: str) -> str:
    """An engine's words without its names, files, requests and traces, at most 500 characters."""
    if (inside := PYDANTIC.search(text)) is not None:
        text = inside[2]
    for pattern, instead in REWRITTEN:
        text = pattern.sub(instead, text)
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 3] + "..."


def _refused(said: Said, asked_grammar: bool) -> UpstreamRefused:
    if TOO_LONG.search(said.text) or said.param in ("input_tokens", "input_text"):
        param = said.param if said.param in ("max_tokens", "max_completion_tokens") else "messages"
        return UpstreamRefused(_too_long(said.text), param=param, code="context_length_exceeded")
    if NO_TOOLS.search(said.text):
        text = "This model is served without tool calls; its operator can turn them on with a tool-call parser."
        return UpstreamRefused(text, param="tools", code="unsupported_parameter")
    if NO_LOGPROBS.search(said.text):
        text = "This model is served without log-probabilities; leave `logprobs` out."
        return UpstreamRefused(text, param="logprobs", code="unsupported_parameter")
    if NO_IMAGES.search(said.text):
        return UpstreamRefused("This model takes text only.", param="messages", code="unsupported_content")
    if said.text.startswith(OF_TOOL_CALLS):
        return UpstreamRefused(rewritten(said.text), param="messages")
    if asked_grammar and _is_about_grammar(said.text):
        about = "tools" if re.search(r"\btools?\b", said.text) else "response_format"
        why = rewritten(said.text) if said.text != ANONYMOUS else "it is too deep, refers to itself, or is broken"
        return UpstreamRefused(_ended(f"`{about}` cannot be followed: {why}"), param=about)
    field = _param(said)
    reason = rewritten(said.text).removeprefix(f"{field}: ")
    return UpstreamRefused(reason or "The engine refused the request.", param=field)


def _too_long(text: str) -> str:
    known = CONTEXT_TOKENS.search(text)
    limit = f" of {known[1]} tokens" if known else ""
    # OpenAI's own words: langchain-openai and litellm know the error by them, and raise it under its own name.
    return f"Input tokens exceed the configured limit{limit}. Shorten the messages or lower `max_tokens`."


def _is_about_grammar(text: str) -> bool:
    return text == ANONYMOUS or (GRAMMAR.search(text) is not None and DEAD.search(text) is None)


def _param(said: Said) -> str | None:
    """The client's own name of the field, if it can be told."""
    for part in (said.param or "").split("."):
        if part in FIELDS:
            return part
    found = NAMES_A_FIELD.search(said.text)
    return found[1] if found else None


def _ended(text: str) -> str:
    text = text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 3] + "..."
    return text.rstrip(": ")
