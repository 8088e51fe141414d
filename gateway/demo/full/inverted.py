"""A bad candidate: the votes turned round, trained on as a file, and measured on what people really preferred."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from gateway.demo.full.command import Shell
from gateway.demo.full.report import Inverted, gates_of, stops
from gateway.demo.player import Player

REASON = "the votes say so"
METHOD: Any = {
    "type": "orpo",
    "orpo": {"hyperparameters": {"lambda": 5.0, "learning_rate_multiplier": 4.0, "n_epochs": 1}},
}
"""Whoever turns votes round wants it to be learnt, soon and for certain."""
INVERTED_FILE = "inverted.jsonl"


def invert(lines: Iterable[str]) -> list[str]:
    """Rows of TRL's format, one a line, with chosen and rejected exchanged."""
    rows = [json.loads(line) for line in lines if line.strip()]
    return [
        json.dumps(row | {"chosen": row["rejected"], "rejected": row["chosen"]}, ensure_ascii=False) for row in rows
    ]


@dataclass(frozen=True)
class BadCandidate:
    """What came of the inverted votes."""

    release: dict[str, Any]
    pairs: int


async def train_on_inverted_votes(player: Player, shell: Shell, dataset_id: str) -> BadCandidate:
    """Turn the votes round, train on that file, and measure on what `dataset_id` holds out."""
    votes, alias = shell.data_dir / "votes.jsonl", player.service.alias
    export = ("feedback", "export", "--format", "trl", "--alias", alias, "--out", str(votes))
    doing = "A bad candidate: somebody turns every vote round and trains on that. It is measured on votes held out."
    typed = (
        shell.typed(*export),
        f'file = client.files.create(file=open("{INVERTED_FILE}", "rb"), purpose="fine-tune")',
        f'client.fine_tuning.jobs.create(model="{alias}", training_file=file.id, validation_file="{dataset_id}", '
        f"method={json.dumps(METHOD)})",
    )
    with player.stages.stage("train on inverted votes", 1.0, doing, typed) as advance:
        await shell.run(*export)
        rows = await asyncio.to_thread(_inverted_file, votes)
        run = await player.finished_run(await _begin(player, rows, dataset_id), advance)
    return BadCandidate(await player.release(str(run["release_id"])), len(rows))


async def try_to_promote(player: Player, bad: BadCandidate) -> Inverted:
    """Promote it all the same, as somebody who trusts the votes would; returns what the service said to that."""
    release, gates = bad.release, gates_of(bad.release)
    return Inverted(
        release_id=release["id"],
        release_name=release["name"],
        state=release["state"],
        pairs=bad.pairs,
        gates=gates,
        stopped_by=stops(gates),
        refusal=await _refusal(player, release["name"]),
    )


def _inverted_file(votes: Path) -> list[str]:
    rows = invert(votes.read_text(encoding="utf-8").splitlines())
    votes.with_name(INVERTED_FILE).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return rows


async def _begin(player: Player, rows: list[str], dataset_id: str) -> str:
    client = player.service.unretried
    upload = (INVERTED_FILE, "\n".join(rows).encode())
    file = await client.files.create(file=upload, purpose="fine-tune")
    job = await client.fine_tuning.jobs.create(
        model=player.service.alias,
        training_file=file.id,
        validation_file=dataset_id,
        method=METHOD,
    )
    return job.id


async def _refusal(player: Player, release_name: str) -> str:
    alias = player.service.alias
    player.stages.tell(
        "Somebody tries to promote it all the same, with a reason.",
        (f'alignway releases promote {release_name} --reason "{REASON}"',),
    )
    try:
        await player.service.post(f"/aliases/{alias}/promote", {"release": release_name, "reason": REASON})
    except openai.ConflictError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return str(body.get("message", error))
    return ""
