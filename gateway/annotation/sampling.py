"""Second answers: on a share of chats the gateway asks once more, and puts both answers into the annotation queue.

The client sees nothing of it. All work is done after its answer, in the background, and only with engines that have
room; whatever cannot be done at once is left out.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from gateway.annotation.items import item_of
from gateway.annotation.order import COMPARISON, TIERS
from gateway.contracts.ids import COMPLETION, mint
from gateway.contracts.message import Message
from gateway.engines.openai_client import EngineClient
from gateway.errors import AlignwayError
from gateway.feedback.bodies import ChoiceRef
from gateway.feedback.completions import is_task_call
from gateway.feedback.identity import KeyedHashes
from gateway.formats.flaws import flaw_of_outputs
from gateway.routing.policy import Target
from gateway.routing.pool import Lease, Pool
from gateway.sections.learning import TASK_PROMPTS
from gateway.settings import AnnotationSettings, ComparisonSettings
from gateway.storage.annotation import add_task
from gateway.storage.completion_log import CompletionLog, CompletionRow
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from gateway.storage.stored import COMPARISON_KEY
from gateway.storage.tables import ReleaseRow
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import Signature, WholeAnswer

MAX_SEED = 2**31
REPORT_SECONDS = 60.0
"""The log says at most this often what was left out."""

log = structlog.get_logger(__name__)


class Asker(Protocol):
    """What sampling needs to know of the key behind a chat."""

    @property
    def project_id(self) -> str:
        """Its project."""
        ...


@dataclass(frozen=True)
class Answered:
    """A chat that was answered."""

    completion_id: str
    project_id: str
    request: ChatRequest
    target: Target


class LeftOut(Exception):
    """There will be no second answer; the text says why, in a word."""


class Comparisons:
    """The second answers of one gateway worker."""

    def __init__(
        self,
        settings: ComparisonSettings,
        annotation: AnnotationSettings,
        database: Database,
        pool: Pool,
        engines: EngineClient,
        completions: CompletionLog,
        hashes: KeyedHashes,
    ) -> None:
        self._settings, self._annotation, self._database = settings, annotation, database
        self._pool, self._engines, self._completions, self._hashes = pool, engines, completions, hashes
        self._waiting: asyncio.Queue[Answered] = asyncio.Queue(settings.max_waiting)
        self._chance = random.Random()
        self.left_out: Counter[str] = Counter()
        """Why chats that were drawn got no second answer."""

    def offer(self, request: ChatRequest, caller: Asker, target: Target, completion_id: str) -> None:
        """A chat was answered: draw whether it is compared. On the path of every answer; never raises, never waits."""
        if self._chance.random() >= self._settings.share or not comparable(request):
            return
        if self._waiting.full():
            self.left_out["queue_full"] += 1
            return
        self._waiting.put_nowait(Answered(completion_id, caller.project_id, request, target))

    async def run(self) -> None:
        """Ask for second answers, one at a time, until cancelled."""
        reported_at, reported = time.monotonic(), 0
        while True:
            if self.left_out.total() > reported and time.monotonic() - reported_at >= REPORT_SECONDS:
                reported_at, reported = time.monotonic(), self.left_out.total()
                log.info("comparisons_left_out", **self.left_out)
            answered = await self._waiting.get()
            try:
                await self._compare(answered)
            except LeftOut as reason:
                self.left_out[str(reason)] += 1
            except AlignwayError as error:
                self.left_out[error.code] += 1
            except Exception:
                log.exception("comparison_failed")

    async def _compare(self, answered: Answered) -> None:
        request = answered.request
        if is_task_call(request.stored_messages(), request.metadata or {}, TASK_PROMPTS):
            raise LeftOut("task_call")
        lease = self._take(await self._writer(answered), request.model)
        began = time.time()
        try:
            parameters = self._parameters(request)
            reply = await self._ask(request, lease.target, parameters)
        finally:
            lease.release()
        release = lease.target.release
        answer = WholeAnswer(Signature(answered.completion_id, int(began), release.name, release.id), 1)
        answer.take(msgspec.json.encode(reply))
        row = self._row(answered, lease.target, parameters, answer, began)
        if not await self._record(row):
            raise LeftOut("not_recorded")
        await self._queue(answered, row.id)

    async def _writer(self, answered: Answered) -> str:
        """The name of the release that writes the second answer."""
        if self._settings.against == "same":
            return answered.target.release.name
        async with self._database.read() as session:
            own = await session.get(ReleaseRow, answered.target.release.id)
            parent = None if own is None or own.parent_id is None else await session.get(ReleaseRow, own.parent_id)
        if parent is None:
            raise LeftOut("no_parent")
        return parent.name

    def _take(self, release_name: str, alias: str) -> Lease:
        """A replica with room. Raises `LeftOut`, or what the pool raises."""
        if self._pool.waiting:
            raise LeftOut("busy")
        lease = self._pool.try_take(release_name, alias.encode())
        if lease is None:
            raise LeftOut("busy")
        if self._pool.in_flight[lease.target.replica_id] > self._settings.free_below:
            lease.release()
            raise LeftOut("busy")
        return lease

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        """Those of the chat, but for another seed, and for more warmth where the same release answers again."""
        parameters: dict[str, Any] = msgspec.json.decode(request.parameters_json)
        if self._settings.against == "same":
            parameters["temperature"] = max(parameters.get("temperature") or 0.0, self._settings.temperature)
        return parameters | {"seed": self._chance.randrange(MAX_SEED)}

    async def _ask(self, request: ChatRequest, target: Target, parameters: dict[str, Any]) -> dict[str, Any]:
        messages = msgspec.json.decode(request.engine_messages_json)
        body = parameters | {"model": target.engine_model, "messages": messages}
        return await self._engines.complete(target.url, body, target.kind)

    def _row(
        self, answered: Answered, target: Target, parameters: dict[str, Any], answer: WholeAnswer, began: float
    ) -> CompletionRow:
        request = answered.request
        end_user = request.end_user
        return CompletionRow(
            id=mint(COMPLETION),
            project_id=answered.project_id,
            key_id=COMPARISON_KEY,
            alias=target.release.alias,
            release_id=target.release.id,
            status="finished",
            messages=request.stored_messages_json.decode(),
            parameters=msgspec.json.encode(parameters).decode(),
            choices=answer.choices_json().decode(),
            usage=answer.usage_json().decode(),
            end_user_hash=self._hashes.keyed_hash("end_user", end_user) if end_user else None,
            created_at=began,
            first_chunk_seconds=None,
            total_seconds=time.time() - began,
            call_metadata=msgspec.json.encode({"comparison_of": answered.completion_id}).decode(),
        )

    async def _record(self, row: CompletionRow) -> bool:
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._completions.write(row, lambda done: None if recorded.done() else recorded.set_result(done))
        return await recorded

    async def _queue(self, answered: Answered, completion_id: str) -> None:
        """Put both answers into the queue, if there is anything to compare."""
        async with self._database.write("relaxed") as session:
            first = await session.get(Completion, answered.completion_id)
            second = await session.get(Completion, completion_id)
            if first is None or second is None:
                raise LeftOut("not_recorded")
            if (flaw := flaw_of(first, second)) is not None:
                raise LeftOut(flaw)
            item, sides = item_of(ChoiceRef(completion_id=first.id), ChoiceRef(completion_id=second.id))
            values: dict[str, Any] = {"alias": first.alias, "item": item, "sides": sides, "purpose": COMPARISON}
            values |= {"tier": TIERS[COMPARISON], "wanted": self._annotation.raters_per_comparison}
            await add_task(session, time.time(), project_id=answered.project_id, **values)


def comparable(request: ChatRequest) -> bool:
    """Whether a chat may be compared: one that a person asked and that is stored, of text alone, with one answer.

    Pure. What a chat program asks for itself (titles, tags) bears `task` in its metadata.
    """
    metadata = request.metadata or {}
    if metadata.get("task") or metadata.get("type") == "task":
        return False
    return request.store is not False and request.choices == 1 and not request.images


def flaw_of(first: Completion, second: Completion) -> str | None:
    """Why two answers are not worth a look: cut short, empty, alike, or calls of tools. Pure."""
    choices = [completion.choices[0] for completion in (first, second)]
    if any(choice["finish_reason"] != "stop" for choice in choices):
        return "cut_short"
    one, other = (Message.model_validate(choice["message"]) for choice in choices)
    return "tool_calls" if one.tool_calls or other.tool_calls else flaw_of_outputs(one, other)
