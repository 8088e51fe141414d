"""Posts one message to one target. Neither its URL nor what goes wrong with it is ever told with its secret."""

import re
import time
from dataclasses import dataclass

import aiohttp

from gateway.notify.shapes import posted, was_taken
from gateway.notify.texts import Message
from gateway.sections.notify import NotifyTarget

ANSWER_BYTES = 4096
TOLD_CHARACTERS = 200
SECRET_CHARACTERS = 8
"""A shorter piece of a URL is no secret."""


@dataclass(frozen=True)
class Answer:
    """What became of an attempt."""

    taken: bool
    detail: str
    """The status and the beginning of the answer, or what went wrong."""


async def send(http: aiohttp.ClientSession, target: NotifyTarget, message: Message, timeout_seconds: float) -> Answer:
    """Post a message; never raises for what the target or the way to it does. Redirects are not followed."""
    request = posted(target, message, time.time())
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with http.post(
            request.url, data=request.body, headers=request.headers, timeout=timeout, allow_redirects=False
        ) as response:
            body = (await response.content.read(ANSWER_BYTES)).decode(errors="replace")
            taken = was_taken(target.shape, response.status, body)
            return Answer(taken, without_secrets(target, f"{response.status} {body}".strip()))
    except TimeoutError:
        return Answer(False, f"no answer within {timeout_seconds:g} s")
    except aiohttp.ClientConnectorError as error:
        return Answer(False, f"no connection: {error.os_error.strerror or type(error.os_error).__name__}")
    except (aiohttp.ClientError, ValueError, OSError) as error:
        return Answer(False, type(error).__name__)  # the text of some names the whole URL


def without_secrets(target: NotifyTarget, text: str) -> str:
    """The text on one line, shortened, without the target's secrets."""
    behind_host = target.url.split("/", 3)[3:]
    pieces = [piece for piece in re.split(r"[/?&=#]", "".join(behind_host)) if len(piece) >= SECRET_CHARACTERS]
    for secret in (target.url, *pieces, target.secret):
        if secret:
            text = text.replace(secret, "***")
    return " ".join(text.split())[:TOLD_CHARACTERS]
