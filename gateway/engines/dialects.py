"""What engines of each kind want to hear and how they say no, so that nobody outside can tell one from another.

Everything here is pure and takes and returns JSON as it is on the wire. What a dialect leaves as it is costs nothing:
the very same object comes back.
"""

from typing import Any

import msgspec

from gateway.engines.mending import Mending
from gateway.engines.refusals import broken_off, refusal
from gateway.errors import AlignwayError, InvalidRequest

GREEDY_BELOW = 1e-5
"""vLLM takes a lower temperature for 0."""
SEED_BITS = 0x7FFF_FFFF_FFFF_FFFF
LMDEPLOY_PENALTIES = ("presence_penalty", "frequency_penalty")

_decode = msgspec.json.decode
_encode = msgspec.json.encode
Fields = dict[str, Any]


class Dialect:
    """An engine that takes OpenAI's requests as they are: vLLM, the scripted engine, and somebody else's."""

    def parameters(self, parameters_json: bytes, choices: int = 1) -> bytes:
        """A request's fields, other than model and messages, as the engine wants them; `choices`: the `n` among them.

        Raises `InvalidRequest` for what the engine would ignore.
        """
        if choices == 1:
            return parameters_json
        fields = _decode(parameters_json)
        told = self.told(fields)
        return parameters_json if told is fields else _encode(told)

    def messages(self, messages_json: bytes) -> bytes:
        """A request's messages as the engine wants them."""
        return messages_json

    def mends(self, parameters_json: bytes) -> bool:
        """Whether the answer to such a request must be mended (`EngineClient` does), and cannot be passed on raw."""
        return False

    def mending(self, body: Fields) -> Mending | None:
        """What mends the answer to a request that `told` made, if `mends` says so of it."""
        return None

    def told(self, fields: Fields) -> Fields:
        """`parameters` and `messages`, decoded; takes a whole request as well."""
        temperature = fields.get("temperature")
        if (fields.get("n") or 1) > 1 and temperature is not None and temperature < GREEDY_BELOW:
            # vLLM refuses several choices at temperature 0. The likeliest token alone is the same, and it takes that.
            return fields | {"temperature": 1.0, "top_k": 1}
        return fields

    def refusal(self, status: int, body: bytes, asked_grammar: bool) -> AlignwayError:
        """The error that an answer of `status` means, in words of ours.

        `asked_grammar`: the request had tools or a response format, which engines have been seen to die of politely.
        """
        return refusal(status, body, asked_grammar)

    def broken_off(self, error: Any, asked_grammar: bool) -> AlignwayError:
        """The error that an `error` in a stream means, given the decoded value of that key.

        `UpstreamRefused`, if the fault lies in the request: as good as a 400 while nothing has been sent on.
        """
        return broken_off(error, asked_grammar)


class LmdeployDialect(Dialect):
    """LMDeploy 0.18."""

    def parameters(self, parameters_json: bytes, choices: int = 1) -> bytes:
        """Translated; see `told`."""
        return parameters_json if parameters_json == b"{}" else _encode(self.told(_decode(parameters_json)))

    def messages(self, messages_json: bytes) -> bytes:
        """With the role `developer`, of which most chat templates know nothing, as `system`."""
        if b'"developer"' not in messages_json:
            return messages_json
        messages = _decode(messages_json)
        return _encode([_without_developer(message) for message in messages])

    def mends(self, parameters_json: bytes) -> bool:
        """LMDeploy stops at the tokens that contain a stop, if there are any, and writes log-probabilities oddly."""
        return b'"stop"' in parameters_json or b'"logprobs"' in parameters_json

    def mending(self, body: Fields) -> Mending | None:
        """Stops and log-probabilities."""
        return Mending(body) if body.get("stop") or body.get("logprobs") else None

    def told(self, fields: Fields) -> Fields:
        """LMDeploy ignores or refuses what OpenAI's API allows; raises `InvalidRequest` for what it would ignore."""
        told = {name: value for name, value in fields.items() if value is not None}
        for name in LMDEPLOY_PENALTIES:
            if told.pop(name, 0):
                text = f"`{name}` is not supported for this model; leave it out, or use `repetition_penalty`."
                raise InvalidRequest(text, param=name, code="unsupported_parameter")
        if told.get("top_k") == -1:
            told["top_k"] = 0
        if "seed" in told:
            told["seed"] &= SEED_BITS
        if told.get("response_format") == {"type": "text"}:
            del told["response_format"]
        if (effort := told.pop("reasoning_effort", None)) is not None:
            # Only through the template does every level pass, as it does with vLLM.
            given = told.get("chat_template_kwargs") or {}
            told["chat_template_kwargs"] = {"reasoning_effort": effort, "enable_thinking": effort != "none"} | given
        if "messages" in told:
            told["messages"] = [_without_developer(message) for message in told["messages"]]
        return told


def _without_developer(message: Fields) -> Fields:
    return message | {"role": "system"} if message.get("role") == "developer" else message


OPENAI = Dialect()
DIALECTS = {"vllm": OPENAI, "scripted": OPENAI, "url": OPENAI, "lmdeploy": LmdeployDialect()}


def dialect_of(kind: str) -> Dialect:
    """The dialect of engines of this kind (`engine.kind`, or what an engine given by URL turned out to be)."""
    return DIALECTS[kind]
