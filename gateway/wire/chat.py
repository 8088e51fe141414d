"""A chat request: from the bytes a client sent to the JSON an engine is sent. This is on the path of every answer.

Nothing of a client's body reaches an engine but what `chat_fields.Parameters` and `chat_messages` name, and that is
written anew from typed values, never copied. Of a key that comes twice the last value counts, here and so there.
"""

from typing import Any

import msgspec

from gateway.contracts.message import Message
from gateway.settings import SurfaceSettings
from gateway.wire.chat_fields import ChatBody, parameters_of
from gateway.wire.chat_messages import read_conversation, text_of
from gateway.wire.chat_refusals import second_look
from gateway.wire.chat_rules import apply_rules

_decode = msgspec.json.Decoder(ChatBody).decode
_encode = msgspec.json.Encoder().encode


class ChatRequest:
    """The body of `POST /v1/chat/completions`, checked. Holds JSON, not objects: most of it is only passed on."""

    __slots__ = (
        "_first_user",
        "asks_grammar",
        "choices",
        "end_user",
        "engine_messages_json",
        "image_bytes",
        "images",
        "max_tokens_asked",
        "metadata",
        "model",
        "parameters_json",
        "prompt_cache_key",
        "store",
        "stored_messages_json",
        "stream",
        "wants_usage",
    )

    def __init__(self, body: ChatBody, surface: SurfaceSettings) -> None:
        apply_rules(body, surface)
        conversation = read_conversation(body.messages, surface)
        self._first_user = conversation.first_user
        self.model = body.model
        self.stream = body.stream is True
        """Whether the answer comes in chunks."""
        self.wants_usage = body.stream_options is not None and body.stream_options.include_usage is True
        """Whether the stream is to end with a usage chunk."""
        self.choices = body.n or 1
        self.max_tokens_asked = body.max_completion_tokens or body.max_tokens
        self.end_user = body.safety_identifier or body.user
        """Whom the client says it asks for."""
        self.store = body.store
        self.metadata = body.metadata
        self.prompt_cache_key = body.prompt_cache_key
        self.images, self.image_bytes = conversation.images, conversation.image_bytes
        self.asks_grammar = body.tools is not None or body.response_format is not None
        """Whether the engine may have to make a grammar, and so may fail over one."""
        self.engine_messages_json = conversation.engine_json
        self.stored_messages_json = conversation.stored_json
        """With reasoning apart, as `contracts.message.Message` has it."""
        self.parameters_json = _encode(parameters_of(body))
        """Every other field that goes to the engine and into the record: a JSON object."""

    @property
    def metadata_json(self) -> bytes:
        """The metadata: a JSON object."""
        return _encode(self.metadata) if self.metadata else b"{}"

    def first_user_text(self) -> str:
        """The text of the first message of the role `user`."""
        return text_of(self._first_user)

    def stored_messages(self) -> list[Message]:
        """The prompt as it is recorded."""
        return [Message.model_validate(message) for message in msgspec.json.decode(self.stored_messages_json)]

    def parameters(self) -> dict[str, Any]:
        """The sampling, tools and format that go to the engine and into the record."""
        fields: dict[str, Any] = msgspec.json.decode(self.parameters_json)
        return fields


def parse_chat_request(body: bytes, surface: SurfaceSettings) -> ChatRequest:
    """Validate a request body. Raises `InvalidRequest` that names the parameter."""
    try:
        fields = _decode(body)
    except (ValueError, RecursionError):
        fields = second_look(body, surface)
    return ChatRequest(fields, surface)
