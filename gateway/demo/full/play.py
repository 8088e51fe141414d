"""The full demo, top to bottom: learn, walk a canary with votes, stop a bad candidate, take a broken release back."""

import asyncio
import dataclasses
import json
import time
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from gateway.demo.full.command import Shell
from gateway.demo.full.inverted import train_on_inverted_votes, try_to_promote
from gateway.demo.full.report import FullReport, gates_of
from gateway.demo.full.sabotage import add_broken_release, promote_broken_release
from gateway.demo.full.table import gates_table
from gateway.demo.full.trial import walk_canary
from gateway.demo.loop import played, shown
from gateway.demo.player import DemoSettings, Player, Stages, Telling
from gateway.demo.service import DemoFailed, Service, only_release

PROFILE_FILE = "quick.toml"


@dataclasses.dataclass(frozen=True)
class FullSettings:
    """How long the full demo may take; how much it asks and teaches is `demo`'s."""

    demo: DemoSettings = dataclasses.field(
        default_factory=lambda: DemoSettings(
            unseen=20,
            pairs=56,
            fixed=3,
            concurrency=8,
            max_tokens=64,
            teaching_max_tokens=64,
            vote_max_tokens=96,
            max_steps=18,
            train_timeout_seconds=900.0,
            settle_seconds=120.0,
        )
    )
    """Less of everything, and shorter answers: there is more to come."""
    request_timeout_seconds: float = 600.0
    canary_timeout_seconds: float = 600.0
    rollback_timeout_seconds: float = 300.0
    limit_seconds: float = 2400.0
    """The whole, from the first question on."""


def write_profile(data_dir: Path) -> Path:
    """The settings file of the full demo, laid beside its data, where a person can read it."""
    text = resources.files("gateway.demo.full").joinpath(PROFILE_FILE).read_text(encoding="utf-8")
    path = data_dir / PROFILE_FILE
    path.write_text(text, encoding="utf-8")
    return path


def run_full_demo(
    base_url: str, api_key: str, alias: str, shell: Shell, settings: FullSettings, console: Console
) -> FullReport:
    """Play the full demo against a running service of its own. Raises `DemoFailed` where it cannot end."""
    with shown(console) as progress:
        service = Service(base_url, api_key, alias, settings.request_timeout_seconds)
        full = _FullDemo(Player(service, settings.demo, Stages(progress)), shell, settings)
        return asyncio.run(_bounded(service, full.play, settings.limit_seconds, full.stage_names))


async def _bounded(
    service: Service, play: Callable[[], Any], limit_seconds: float, done: Callable[[], list[str]]
) -> FullReport:
    try:
        async with asyncio.timeout(limit_seconds):
            report: FullReport = await played(service, play)
            return report
    except TimeoutError as error:
        raise DemoFailed(
            f"the full demo was not over within {limit_seconds / 60:g} minutes; done were: {', '.join(done())}. "
            "The machine is busy: play it again when it is not, or play `alignway demo`, which is shorter."
        ) from error


class _FullDemo:
    def __init__(self, player: Player, shell: Shell, settings: FullSettings) -> None:
        self._player = player
        self._shell = shell
        self._settings = settings

    def stage_names(self) -> list[str]:
        """The stages that are over."""
        return [stage.name for stage in self._player.stages.done]

    async def play(self) -> FullReport:
        """Every act in its order."""
        player, chosen, began = self._player, self._settings, time.monotonic()
        before = await player.ask("ask, before", ASK)
        taught = await player.teach(TEACH)
        run = await player.train(self._train())
        incumbent, candidate = await player.release(only_release(before)), await player.release(run["release_id"])
        self._show_gates(candidate)
        canary = await walk_canary(player, self._shell, incumbent, candidate, chosen.canary_timeout_seconds)
        after = await player.ask("ask, after", Telling("The candidate has all traffic. The unseen prompts again."))
        if (found := only_release(after)) != candidate["id"]:
            raise DemoFailed(f"after the promotion of {candidate['id']} the answers come from {found}")
        bad = await train_on_inverted_votes(player, self._shell, str(run["dataset_id"]))
        self._print(gates_table(gates_of(bad.release)))
        inverted = await try_to_promote(player, bad)
        player.stages.tell(f"The service refuses: {inverted.refusal}" if inverted.refusal else "It was NOT refused.")
        broken = await add_broken_release(player, self._shell)
        fixed = after[: player.settings.fixed]
        sabotage = await promote_broken_release(player, self._shell, broken, fixed, chosen.rollback_timeout_seconds)
        learnt = player.learnt(before, after, taught, dict(candidate["metrics"]))
        return FullReport(
            **dict(learnt),
            profile=profile(),
            seconds=time.monotonic() - began,
            gates=gates_of(candidate),
            canary=canary,
            inverted=inverted,
            sabotage=sabotage,
        )

    def _train(self) -> Telling:
        body = json.dumps(
            {"alias": self._player.service.alias, "options": {"max_steps": self._player.settings.max_steps}}
        )
        return Telling(
            "Train: the pairs are frozen, an adapter is trained on them, measured against what serves, and sealed.",
            (f"curl -X POST $URL/admin/v1/retrain -H 'Authorization: Bearer '$KEY -d '{body}'",),
        )

    def _show_gates(self, candidate: dict[str, Any]) -> None:
        gates = gates_of(candidate)
        self._player.stages.tell(
            f"\nThe gate report of {candidate['name']} ({candidate['state']}); a warning asks for a reason.",
            (self._shell.typed("releases", "show", candidate["name"]),),
        )
        self._print(gates_table(gates))
        if candidate["state"] != "published":
            stopped = "; ".join(f"{gate.gate}: {gate.reason}" for gate in gates if gate.verdict == "block")
            raise DemoFailed(f"the gates stopped the trained candidate, so nothing can be promoted: {stopped}")

    def _print(self, table: Any) -> None:
        self._player.stages.progress.console.print(table)


ASK = Telling(
    "Ask: prompts that are never taught, before anything is learnt.",
    ('client.chat.completions.create(model="assistant", messages=[...])',),
)
TEACH = Telling(
    "Teach: an annotator corrects and votes for short answers.",
    ('client.post("/feedback", body={"type": "correction", "target": {...}, "message": {...}}, cast_to=object)',),
)


def profile() -> dict[str, Any]:
    """The settings of the profile `quick`."""
    return tomllib.loads(resources.files("gateway.demo.full").joinpath(PROFILE_FILE).read_text(encoding="utf-8"))
