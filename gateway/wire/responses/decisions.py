"""What becomes of every field of `POST /v1/responses`, in one table; tests compare it with the openai SDK's type."""

from collections.abc import Mapping

from gateway.wire.chat_decisions import CACHING, FORWARDED, HANDLED, REFUSED, Decision

STATELESS = "this server keeps no conversations; send every item in `input`"
FOREIGN = "this server does not offer it; leave it out"

FIELDS: Mapping[str, Decision] = {
    "access_programs": Decision(REFUSED, FOREIGN),
    "background": Decision(REFUSED, "answers are given at once; leave it out", (False,)),
    "background_options": Decision(REFUSED, "answers are given at once; leave it out"),
    "context_management": Decision(REFUSED, STATELESS, ([],)),
    "conversation": Decision(REFUSED, STATELESS),
    "image": Decision(REFUSED, FOREIGN),
    "include": Decision(HANDLED, "`message.output_text.logprobs`, `reasoning.encrypted_content` (sent in clear)"),
    "input": Decision(FORWARDED, "a text, or items: messages, function calls and outputs; reasoning is left out"),
    "instructions": Decision(FORWARDED, "as the first message, of the role `system`"),
    "max_output_tokens": Decision(FORWARDED, "1 or more"),
    "max_tool_calls": Decision(HANDLED, "bounds hosted tools, of which there are none"),
    "metadata": Decision(HANDLED, "stored; at most 16 texts of 512 characters under keys of 64"),
    "model": Decision(HANDLED, "an alias; decides which release answers"),
    "moderation": Decision(REFUSED, "nothing is moderated here; leave it out"),
    "parallel_tool_calls": Decision(FORWARDED, "dropped without `tools`"),
    "previous_response_id": Decision(REFUSED, STATELESS),
    "prompt": Decision(REFUSED, "no templates are kept here; send the text in `input` or `instructions`"),
    "prompt_cache_key": Decision(HANDLED, "requests with the same key go to the same replica where possible"),
    "prompt_cache_options": Decision(HANDLED, CACHING),
    "prompt_cache_retention": Decision(HANDLED, CACHING),
    "reasoning": Decision(FORWARDED, "`effort`; `summary` may be `auto`: the reasoning is sent as it is written"),
    "safety_identifier": Decision(HANDLED, "whom the client asks for; stored as a keyed hash"),
    "service_tier": Decision(REFUSED, "there is one tier; leave it out", ("auto", "default")),
    "store": Decision(HANDLED, "`false`: the completion is not stored, and cannot be voted on"),
    "stream": Decision(HANDLED, "whether the answer comes in events"),
    "stream_options": Decision(HANDLED, "`include_obfuscation` is taken, nothing is padded"),
    "temperature": Decision(FORWARDED, "0 to 2"),
    "text": Decision(FORWARDED, "`format`: `text`, `json_object`, `json_schema`; `verbosity` may be `medium`"),
    "tool_choice": Decision(FORWARDED, "`none`, `auto`, `required`, a function, or `allowed_tools`"),
    "tools": Decision(FORWARDED, "functions; at most `surface.max_tools`. Hosted tools are refused"),
    "top_logprobs": Decision(FORWARDED, "0 to 20"),
    "top_p": Decision(FORWARDED, "more than 0, up to 1"),
    "truncation": Decision(REFUSED, "a prompt is never shortened behind your back; leave it out", ("disabled",)),
    "user": Decision(HANDLED, "whom the client asks for, unless `safety_identifier` says it"),
}
