"""Settings of webhooks: who is told, by the gateway itself, that a training run has ended."""

import base64
import binascii

from pydantic import Field, PositiveFloat, field_validator, model_validator

from gateway.sections.section import Section

PREFIX = "whsec_"
LEAST_SECRET_BYTES = 24


class WebhookSettings(Section):
    """Events of fine-tuning jobs, sent as OpenAI sends them and signed as Standard Webhooks says."""

    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    """Where `fine_tuning.job.succeeded`, `.failed` and `.cancelled` are posted; without it nothing is sent."""
    secret: str | None = None
    """`whsec_` and at least 24 bytes in base64; the receiver verifies signatures with the same one."""
    timeout_seconds: PositiveFloat = 10.0
    """How long the receiver may take to answer; then the event is sent again later."""
    first_retry_seconds: PositiveFloat = 5.0
    """Pause before the second attempt; it doubles each time, up to an hour."""
    give_up_seconds: PositiveFloat = 86400.0
    """An event that could not be delivered for this long is given up."""

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            key = base64.b64decode(value.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not value.startswith(PREFIX) or len(key) < LEAST_SECRET_BYTES:
            raise ValueError(f"must be {PREFIX} and at least {LEAST_SECRET_BYTES} bytes in base64")
        return value

    @model_validator(mode="after")
    def _never_unsigned(self) -> "WebhookSettings":
        if self.url is not None and self.secret is None:
            raise ValueError("url needs a secret, or nobody can tell our events from forged ones; set webhooks.secret")
        return self
