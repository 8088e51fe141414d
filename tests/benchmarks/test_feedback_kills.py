"""The count after the kills finds what is lost, doubled, or was never sent: else the proof would prove nothing."""

from typing import Any

from benchmarks.feedback.kills import Seen, count
from gateway.contracts.ids import FEEDBACK, PAIR, mint
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow


def rows_of(completion_id: str, *, pair: bool = True) -> tuple[str, list[Any]]:
    """A vote on a completion, as the gateway stores it."""
    id_ = mint(FEEDBACK)
    vote = Feedback(
        id=id_, project_id="proj_1", alias="assistant", natural_key=id_, type="preference", status="active", revision=1,
        rater_hash="r_1", rater_kind="end_user", body={"chosen": {"completion_id": completion_id}}, target={},
        created_at=1.0, updated_at=1.0,
    )  # fmt: skip
    history = FeedbackRevision(feedback_id=id_, revision=1, body={}, at=1.0)
    derived = PairRow(
        id=mint(PAIR), feedback_id=id_, project_id="proj_1", alias="assistant", prompt_hash="ph_1", state="eligible",
        body={}, created_at=1.0,
    )  # fmt: skip
    return id_, [vote, history, *([derived] if pair else [])]


async def store(database: Database, rows: list[Any]) -> None:
    async with database.write() as session:
        session.add(rows[0])
        await session.flush()
        session.add_all(rows[1:])


async def test_what_is_lost_or_doubled_is_counted(database: Database) -> None:
    whole, rows = rows_of("chatcmpl-whole")
    twice, again = rows_of("chatcmpl-twice")
    for one in (rows, again, rows_of("chatcmpl-twice")[1], rows_of("chatcmpl-strange")[1]):
        await store(database, one)
    await store(database, rows_of("chatcmpl-bare", pair=False)[1])
    acknowledged = {"chatcmpl-whole": whole, "chatcmpl-twice": twice, "chatcmpl-lost": "fb_lost"}
    sent = {*acknowledged, "chatcmpl-bare"}
    assert await count(database.url, Seen(acknowledged=acknowledged, sent=sent)) == {
        "stored": 5,
        "lost": 1,
        "doubled": 1,
        "not_sent": 1,
        "without_their_one_pair": 1,
    }
