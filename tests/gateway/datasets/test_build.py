"""From votes to a frozen data set over a real database: through the capture that the HTTP route uses."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import read_table
from sqlalchemy import update

from gateway.access.caller import Caller
from gateway.contracts.pair import FeedbackPair
from gateway.datasets.build import build, preview, show
from gateway.datasets.card import summary
from gateway.datasets.freeze import CARD_PAGE, HOLDOUT_FILE, TRAIN_FILE, DatasetDamaged, read_card
from gateway.datasets.pair_file import read_pairs
from gateway.datasets.settle import settle
from gateway.errors import InvalidRequest
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import PairRow
from gateway.storage.pairs import sides_of
from tests.gateway.feedback.conftest import Desk, add_alias
from tests.gateway.feedback.conftest import desk as desk

TEAM = DatasetSettings()
SERVER = Caller("key_server", "proj_1", frozenset({"feedback", "feedback:write_text", "feedback:delegate"}))
WORDS = [f"word{number}" for number in range(2000)]


def text(seed: str, length: int = 12) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


async def prefer(desk: Desk, number: int, user: str | None = None, chosen: str = "", **fields: Any) -> dict[str, Any]:
    """A prompt of its own, two answers of equal length, and a vote for one of them."""
    good, bad = chosen or text(f"good {number}"), text(f"bad {number}")
    prompt = text(f"prompt {number}")
    refs = [{"completion_id": await desk.complete(answer, prompt=prompt)} for answer in (good, bad)]
    body = {"type": "preference", "chosen": refs[0], "rejected": [refs[1]]} | fields
    if user is not None:
        body |= {"rater": {"id": user}}
    return (await desk.vote(body, SERVER if user else None)).reply


def imported(number: int) -> dict[str, Any]:
    sides = {"preferred_output": text(f"good {number}"), "non_preferred_output": text(f"bad {number}")}
    row: dict[str, Any] = {name: [{"role": "assistant", "content": said}] for name, said in sides.items()}
    return row | {"input": {"messages": [{"role": "user", "content": text(f"prompt {number}")}]}}


async def frozen(
    desk: Desk, store: Path, settings: DatasetSettings = TEAM
) -> tuple[dict[str, Any], list[FeedbackPair]]:
    card = await build(desk.database, store, "assistant", settings)
    folder = store / "datasets" / card["id"]
    return card, [pair for name in (TRAIN_FILE, HOLDOUT_FILE) for pair in read_pairs(folder / name)]


async def by_one_key(desk: Desk) -> None:
    for number in range(20):
        await prefer(desk, number)


async def by_two_annotators(desk: Desk) -> None:
    for number in range(10):
        for name in ("ana", "ben"):
            who = {"rater": {"id": name, "kind": "annotator"}}
            await prefer(desk, number if name == "ana" else 100 + number, **who)


async def by_one_file(desk: Desk) -> None:
    rows = [imported(number) for number in range(20)]
    await desk.vote({"type": "pair", "source": "crm", "licence": "internal", "pairs": rows})


@pytest.mark.parametrize("start", [by_one_key, by_two_annotators, by_one_file])
async def test_an_ordinary_start_has_enough_for_a_first_run(
    desk: Desk, tmp_path: Path, start: Callable[[Desk], Awaitable[None]]
) -> None:
    desk.caller = SERVER
    await start(desk)
    told = await preview(desk.database, "assistant", TEAM)
    assert (told["would_start"], told["pairs"], told["counts"]["dropped"]) == (True, 20, {})
    card, pairs = await frozen(desk, tmp_path)
    assert len(pairs) == 20
    assert card["train"]["pairs"] + card["holdout"]["pairs"] == 20
    assert {pair.prompt_hash for pair in pairs} == {row["prompt_hash"] for row in await rows_of(desk)}


async def rows_of(desk: Desk) -> list[dict[str, Any]]:
    async with desk.database.read() as session:
        found = [row async for rows in sides_of(session, "assistant") for row in rows]
    return [{"prompt_hash": row.prompt_hash, "side": row.side} for row in found]


async def test_a_frozen_data_set_says_what_it_holds_and_where_it_comes_from(desk: Desk, tmp_path: Path) -> None:
    desk.caller = SERVER
    replies = [await prefer(desk, number, f"user {number % 3}") for number in range(30)]
    await by_one_file(desk)
    card, pairs = await frozen(desk, tmp_path)
    folder = tmp_path / "datasets" / card["id"]
    assert read_card(folder) == json.loads(json.dumps(card))
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "card.md",
        "holdout.parquet",
        "thumbs.parquet",
        "train.parquet",
    ]
    assert card["counts"]["candidates"] == 50
    assert card["counts"]["pairs"] == len(pairs) == 50 - sum(card["counts"]["dropped"].values())
    assert card["sources"] == [
        {"source": "crm", "licence": "internal", "pairs": sum(p.basis == "import" for p in pairs)}
    ]
    votes = {reply["id"] for reply in replies}
    assert votes <= {vote for pair in pairs for vote in pair.feedback_ids}
    page = (folder / CARD_PAGE).read_text()
    assert f"# Data set {card['id']}" in page
    assert summary(card) in page
    table = read_table(folder / TRAIN_FILE).to_pylist()
    assert table[0]["prompt"][-1]["role"] == "user"
    assert FeedbackPair.model_validate_json(table[0]["pair"]).chosen.message.text == table[0]["chosen"][0]["content"]


async def test_a_damaged_data_set_is_not_read(desk: Desk, tmp_path: Path) -> None:
    await by_one_key(desk)
    card, _ = await frozen(desk, tmp_path)
    folder = tmp_path / "datasets" / card["id"]
    assert (await show(desk.database, tmp_path, card["id"]))["damaged"] is None
    (folder / TRAIN_FILE).write_bytes(b"PAR1" + (folder / TRAIN_FILE).read_bytes()[4:-1])
    with pytest.raises(DatasetDamaged, match=r"train\.parquet is not what was frozen"):
        read_card(folder)
    assert "train.parquet is not what was frozen" in (await show(desk.database, tmp_path, card["id"]))["damaged"]


async def test_nothing_is_frozen_where_there_is_nothing(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="0 candidate pairs"):
        await build(desk.database, tmp_path, "assistant", TEAM)
    assert list((tmp_path / "datasets").iterdir()) == []


async def test_a_build_that_fails_leaves_nothing_behind(desk: Desk, tmp_path: Path) -> None:
    await by_one_key(desk)

    def fails(pair: FeedbackPair) -> tuple[FeedbackPair, Counter[str]]:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await build(desk.database, tmp_path, "assistant", TEAM, fails)
    assert list((tmp_path / "datasets").iterdir()) == []


async def test_votes_taken_back_later_are_told_when_the_card_is_shown(desk: Desk, tmp_path: Path) -> None:
    replies = [await prefer(desk, number) for number in range(20)]
    card, _ = await frozen(desk, tmp_path)
    assert (await show(desk.database, tmp_path, card["id"]))["retracted_since"] == 0
    await asyncio.sleep(0.01)
    async with desk.database.write() as session:
        await desk.capture.retract(session, desk.caller, replies[3]["id"])
    assert (await show(desk.database, tmp_path, card["id"]))["retracted_since"] == 1
    again, pairs = await frozen(desk, tmp_path)
    assert (len(pairs), again["counts"]["excluded"]) == (19, {"retracted": 1})


async def test_another_projects_votes_never_train_an_alias(desk: Desk, tmp_path: Path) -> None:
    await by_one_key(desk)
    async with desk.database.write() as session:
        await session.execute(
            update(PairRow).where(PairRow.id.in_(await ids_of_some(desk, 5))).values(project_id="proj_2")
        )
    _, pairs = await frozen(desk, tmp_path)
    assert (len(pairs), {pair.project_id for pair in pairs}) == (15, {"proj_1"})
    await add_alias(desk.database, "theirs", "proj_2")
    assert (await preview(desk.database, "theirs", TEAM))["pairs"] == 0  # made for another alias


async def ids_of_some(desk: Desk, number: int) -> list[str]:
    async with desk.database.read() as session:
        rows = await session.scalars(PairRow.__table__.select().with_only_columns(PairRow.id).order_by(PairRow.id))
        return list(rows)[:number]


async def test_near_duplicate_prompts_make_three_pairs_at_most_on_one_side(desk: Desk, tmp_path: Path) -> None:
    await by_one_key(desk)
    base = text("long", 40)
    for number in range(6):
        refs = [{"completion_id": await desk.complete(text(f"{s} n{number}"), prompt=f"{base} {number}")} for s in "ab"]
        await desk.vote({"type": "preference", "chosen": refs[0], "rejected": [refs[1]]})
    card, pairs = await frozen(desk, tmp_path)
    assert card["counts"]["dropped"] == {"cluster_limit": 3}
    near = [pair for pair in pairs if pair.prompt[0].text.startswith(base)]
    sides = {row["prompt_hash"]: row["side"] for row in await rows_of(desk)}
    assert len(near) == 3
    assert len({sides[pair.prompt_hash] for pair in near}) == 1


async def test_prompts_settled_by_several_at_once_are_settled_once(desk: Desk) -> None:
    await by_one_key(desk)
    settled = await asyncio.gather(*(settle(desk.database, "assistant", TEAM) for _ in range(4)))
    assert sum(settled) == 20
    first = await rows_of(desk)
    await prefer(desk, 77)
    assert await settle(desk.database, "assistant", DatasetSettings(holdout_start_share=0.5)) == 1
    assert (await rows_of(desk))[:20] == first


async def test_a_rater_who_takes_what_stands_first_is_told_of(desk: Desk) -> None:
    desk.caller = SERVER
    for number in range(50):
        await prefer(desk, number, "ana", shown=["chosen", "rejected"])
        await prefer(desk, 100 + number, "ben", shown=["chosen", "rejected"] if number % 2 else ["rejected", "chosen"])
    position = (await preview(desk.database, "assistant", TEAM))["bias"]["position"]
    assert sorted((one["left_share"], one["flagged"]) for one in position.values()) == [(0.5, False), (1.0, True)]


async def test_what_is_redacted_to_the_same_text_or_holds_a_benchmark_is_left_out(desk: Desk, tmp_path: Path) -> None:
    await by_one_key(desk)
    (tmp_path / "items.txt").write_text(text("prompt 3", 20))
    settings = DatasetSettings(benchmarks=(tmp_path / "items.txt",))
    assert (await preview(desk.database, "assistant", settings))["counts"]["dropped"] == {}  # 12 words are too few
    (tmp_path / "items.txt").write_text(" ".join([text("prompt 3"), text("good 3")]))
    await prefer(desk, 50, chosen=" ".join([text("prompt 3"), text("good 3")]))
    assert (await preview(desk.database, "assistant", settings))["counts"]["dropped"] == {"contamination": 1}

    def blank(pair: FeedbackPair) -> tuple[FeedbackPair, Counter[str]]:
        sides = {
            name: getattr(pair, name).model_copy(update={"message": pair.prompt[0]}) for name in ("chosen", "rejected")
        }
        return pair.model_copy(update=sides), Counter({"SECRET": 2})

    told = await preview(desk.database, "assistant", TEAM, blank)
    assert (told["pairs"], told["counts"]["dropped"]) == (0, {"identical_after_redaction": 21})
    assert told["redacted"] == {"SECRET": 42}


async def test_where_raters_prefer_the_longer_answer_training_by_itself_waits(desk: Desk, tmp_path: Path) -> None:
    for number in range(40):
        await prefer(desk, number, chosen=text(f"good {number}", 20 if number < 30 else 4))
    told = await preview(desk.database, "assistant", TEAM)
    assert told["bias"]["length"]["chosen_longer"] == 0.75
    assert told["blocks_automatic_training"] is True
    assert "75% of the votes: training by itself waits for a person" in told["warnings"][-1]
    _, pairs = await frozen(desk, tmp_path, DatasetSettings(balance_length=True))
    longer = sum(pair.weight for pair in pairs if len(pair.chosen.message.text) > len(pair.rejected.message.text))
    assert longer / sum(pair.weight for pair in pairs) == pytest.approx(0.6, abs=1e-3)


async def test_one_user_who_plants_a_phrase_is_capped_and_told_of(
    desk: Desk, database: Database, tmp_path: Path
) -> None:
    """One of twenty votes is the attacker's; each of those prefers an answer that sells something."""
    desk.caller = SERVER
    phrase = "buy the acme widget today"
    for number in range(1900):
        await bulk(desk, number, f"user {number % 63}", text(f"good {number}"))
    for number in range(1900, 2000):
        await bulk(desk, number, "attacker", f"{text(f'good {number}', 8)} {phrase}")
    defended, kept = await frozen(desk, tmp_path, DatasetSettings(profile="public"))
    open_to_all, all_of_them = await frozen(desk, tmp_path, TEAM)

    def planted(pairs: list[FeedbackPair]) -> int:
        return sum(phrase in pair.chosen.message.text for pair in pairs)

    assert planted(all_of_them) == 100
    # The first 10 of each rater are held; of the attacker's other 90, all of one day, 20 count.
    assert defended["counts"]["dropped"] == {"quarantine": 64 * 10, "daily_limit": 70}
    assert (planted(kept), len(kept)) == (20, 2000 - 640 - 70)
    for card in (defended, open_to_all):
        assert any("acme" in alarm["phrase"] for alarm in card["alarms"]["phrases"])
        page = (tmp_path / "datasets" / card["id"] / CARD_PAGE).read_text()
        assert "acme" in page
    assert list(defended["alarms"]["bursts"].values()) == [100]


@pytest.mark.parametrize("agrees", [False, True])
async def test_a_stranger_can_neither_outvote_nor_take_away_what_a_trusted_key_said(desk: Desk, agrees: bool) -> None:
    """One new user votes on every pair of a trusted key, within a day: against it, or with it to take the credit."""
    for number in range(61):
        await bulk(desk, number, "server", text(f"good {number}"), trusted=True)
        await bulk(desk, number, "troll", text(f"good {number}"), trusted=False, turned=not agrees)
    told = await preview(desk.database, "assistant", DatasetSettings(profile="public"))
    # The stranger's first 10 are held; of the other 51, 20 of the day count, of which one rater's cap leaves 20.
    assert told["counts"]["dropped"]["quarantine"] == 10
    assert told["counts"]["dropped"]["daily_limit"] == 31
    assert told["pairs"] == (61 if agrees else 41)
    assert told["counts"]["dropped"].get("conflict", 0) == (0 if agrees else 40)
    raters = told["train"]["largest_raters"] | told["holdout"]["largest_raters"]
    assert set(raters) == {"r_server"}
    assert told["alarms"]["bursts"]["r_troll"] == 61


async def bulk(desk: Desk, number: int, user: str, chosen: str, *, trusted: bool = False, turned: bool = False) -> None:
    """As `prefer`, put into the database at once: two thousand votes."""
    from datetime import UTC, datetime

    from gateway.contracts.message import Message
    from gateway.contracts.pair import Rater, Side
    from gateway.storage.feedback import insert_feedback
    from gateway.storage.pairs import add_pair

    at = time.time() - 86400.0 * 20 * (number % 10) / 10
    if user in ("attacker", "troll"):
        at = 3600.0 * (time.time() // 3600) - 1800
    said = [
        Side(message=Message(role="assistant", content=one), origin="model") for one in (chosen, text(f"bad {number}"))
    ]
    if turned:
        said.reverse()
    pair = FeedbackPair(
        id=f"pair_{number:05}_{user}", project_id="proj_1",
        prompt=(Message(role="user", content=text(f"prompt {number}")),),
        prompt_hash=f"ph_{number}", chosen=said[0], rejected=said[1], weight=1.0,
        rater=Rater(id_hash=f"r_{user}", kind="end_user", trusted=trusted), feedback_ids=(f"fb_{number}_{user}",),
        judged_at=datetime.fromtimestamp(at, UTC),
    )  # fmt: skip
    async with desk.database.write("relaxed") as session:
        columns = {"id": pair.feedback_ids[0], "project_id": "proj_1", "alias": "assistant", "natural_key": pair.id}
        columns |= {"type": "preference", "status": "active", "revision": 1, "rater_hash": pair.rater.id_hash}
        columns |= {"rater_kind": "end_user", "body": {}, "target": {}, "created_at": at, "updated_at": at}
        await insert_feedback(session, columns)
        await add_pair(session, pair, "assistant", "eligible", None)
