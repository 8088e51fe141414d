"""`POST /v1/completions`, the legacy route: a raw prompt, continued. It is no chat, so it is not recorded for votes."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.errors import UpstreamError
from gateway.relay.admission import BYTES_PER_TOKEN
from gateway.relay.exchange import DONE
from gateway.routes.body import read_fields
from gateway.routes.event_stream import EventStream, answered, data_event, error_event
from gateway.routes.passage import Asked, Passage, nonsense_named
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.wire.text import TextAnswer, TextRequest, parse_text_request, text_head

router = APIRouter()
PATH = "/v1/completions"


@router.post(PATH)
async def create_text_completion(
    request: Request, caller: Annotated[Caller, Depends(require("inference"))]
) -> Response:
    """The prompt continued by the release that the alias serves, whole or streamed."""
    services: Services = request.app.state.services
    fields, size = await read_fields(request)
    text = parse_text_request(fields, services.settings.surface)
    completion_id = ids.mint(ids.TEXT_COMPLETION)
    asked = Asked(
        id=completion_id,
        model=text.model,
        task="chat",
        path=PATH,
        operation="text_completion",
        body=text.engine_body,
        first_text=text.first_prompt,
        end_user=text.user,
        prompt_tokens=size // BYTES_PER_TOKEN,
        answer_tokens=(text.max_tokens or 0) * text.choices,
    )
    passage = await Passage.admitted(services, caller, asked, request.headers.get("traceparent"))
    head = _Head(completion_id, text)
    if text.stream:
        stream = _stream(passage, head)
        first = await answered(request, services, anext(stream))
        return EventStream(services.drain, first, stream, error_event, passage.headers)
    reply = await answered(request, services, passage.whole(head.whole))
    return Response(msgspec.json.encode(reply), media_type="application/json", headers=passage.headers)


class _Head:
    """Id and time of one completion, from before it is known who writes it."""

    def __init__(self, completion_id: str, text: TextRequest) -> None:
        self.text, self._id, self._created = text, completion_id, int(time.time())

    def answer(self, target: Target) -> TextAnswer:
        release = target.release
        return TextAnswer(text_head(self._id, self._created, release.name, release.id), self.text)

    def whole(self, reply: dict[str, Any], target: Target) -> dict[str, Any]:
        answer = self.answer(target)
        shown = answer.whole(reply)
        _check_finished(answer)
        return shown


async def _stream(passage: Passage, head: _Head) -> AsyncGenerator[bytes, None]:
    answer: TextAnswer | None = None
    async with aclosing(passage.chunks()) as chunks:
        async for raw, target in chunks:
            answer = answer or head.answer(target)
            with nonsense_named():
                chunk = answer.chunk(raw)
            passage.cost(answer.usage)
            if chunk is not None:
                yield data_event(chunk)
    if answer is None:
        raise UpstreamError("The engine ended the answer before it began; see the engine's log.")
    _check_finished(answer)
    yield (data_event(answer.usage_chunk()) if head.text.wants_usage else b"") + DONE


def _check_finished(answer: TextAnswer) -> None:
    if not answer.finished:
        raise UpstreamError("The engine ended the answer without a finish reason. It is incomplete; ask again.")
