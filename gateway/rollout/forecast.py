"""What a training run would be: steps, device, memory, duration, whom it displaces and when it would start.

Memory and duration come from earlier runs of the alias on the same base; where there was none they are unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.lending import Spare
from gateway.contracts.pace import steps_of
from gateway.contracts.placement import Device, Effort, Need, NoDevice, Place, place
from gateway.contracts.tensor_file import count_values
from gateway.contracts.training import TrainingOptions
from gateway.rollout.triggers import PairCounts, shown_time
from gateway.sections.aligner import BORROW, AlignerSettings
from gateway.storage.aligner_hosts import count_aligners, newest_aligner
from gateway.storage.feedback_tables import Run
from gateway.storage.lending import find_spare
from gateway.storage.runs import earlier_runs, open_runs, queue_position, running_runs
from gateway.storage.tables import Alias, ReleaseRow

EARLIER_RUNS = 5
NO_ALIGNER = "no aligner runs; start `alignway up`, or `alignway aligner` beside it"
_SAME = ("method", "pairs_per_step", "max_length_tokens", "rank", "quantize", "dtype", "gradient_checkpointing")
"""Runs that differ in one of these tell nothing about each other's pace and memory."""


@dataclass(frozen=True)
class Estimate:
    """What earlier runs say; None where they say nothing."""

    duration_seconds: float | None = None
    peak_memory_bytes: int | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """When a run that is asked for now would start."""

    when: str
    """now, queued, in_window, or never: then something has to be done first."""
    reason: str
    at: float | None = None


@dataclass(frozen=True)
class Queue:
    """What a run would find before it."""

    before: int
    """Open runs of its alias."""
    busy: bool
    """Whether every aligner has a run already."""


@dataclass(frozen=True)
class Forecast:
    """What would come of asking for a run."""

    steps: int
    estimate: Estimate
    start: Start
    place: Place | None = None
    displaced: Spare | None = None


def estimated(runs: Sequence[Run], options: TrainingOptions, steps: int) -> Estimate:
    """Medians over earlier runs with the same options, as far as they matter."""
    wanted = options.model_dump(mode="json", by_alias=True)
    alike = [run for run in runs if all(run.options.get(name) == wanted[name] for name in _SAME)]
    told = [(run, Effort.model_validate(run.effort)) for run in alike if run.finished_at is not None]
    if not told:
        return Estimate()
    pace = median(effort.train_seconds / effort.steps for _, effort in told)
    rest = median(max(0.0, (run.finished_at or 0.0) - effort.began_at - effort.train_seconds) for run, effort in told)
    peak = max(effort.peak_memory_bytes for _, effort in told)
    return Estimate(pace * steps + rest, peak, tuple(run.id for run, _ in told))


async def foretell(
    session: AsyncSession,
    settings: AlignerSettings,
    alias: Alias,
    options: TrainingOptions,
    pairs: PairCounts,
    now: float,
    *,
    allow_downtime: bool = False,
) -> Forecast:
    """What a run of the alias would be that is asked for now."""
    steps = steps_of(options, pairs.train) if pairs.train else 0
    runs = await earlier_runs(session, alias.name, alias.base_release_id, EARLIER_RUNS)
    estimate = estimated(runs, options, steps)
    spare = await find_spare(session, alias) if settings.devices == BORROW else None
    aligner = await newest_aligner(session, now)
    if aligner is None:
        return Forecast(steps, estimate, Start("never", NO_ALIGNER), displaced=spare)
    base = await session.get_one(ReleaseRow, alias.base_release_id)
    need = Need(options, count_values(Path(base.location)), estimate.peak_memory_bytes)
    devices = [Device.model_validate(device) for device in aligner.devices]
    try:
        placed = _placed(settings, devices, need, spare)
    except NoDevice as error:
        return Forecast(steps, estimate, Start("never", error.message), displaced=spare)
    queue = Queue(
        before=await open_runs(session, alias.name),
        busy=await running_runs(session) >= await count_aligners(session, now),
    )
    start = _start(settings, spare, queue, now, allow_downtime)
    return Forecast(steps, estimate, start, placed, spare)


async def why_waiting(session: AsyncSession, settings: AlignerSettings, run: Run, now: float) -> str | None:
    """What a queued run waits for; None if it is not queued, or begins any moment."""
    if run.state != "queued":
        return None
    aligners = await count_aligners(session, now)
    if not aligners:
        return NO_ALIGNER
    alias = await session.get_one(Alias, run.alias)
    spare = await find_spare(session, alias) if settings.devices == BORROW else None
    queue = Queue(await queue_position(session, run), await running_runs(session) >= aligners)
    start = _start(settings, spare, queue, now, run.allow_downtime)
    return None if start.when == "now" else start.reason


def view(forecast: Forecast) -> dict[str, Any]:
    """For JSON."""
    placed, displaced, estimate = forecast.place, forecast.displaced, forecast.estimate
    return {
        "steps": forecast.steps,
        "starts": forecast.start.when,
        "starts_at": None if forecast.start.at is None else int(forecast.start.at),
        "starts_reason": forecast.start.reason,
        "device": None if placed is None else placed.device.name,
        "device_reason": None if placed is None else placed.reason,
        "memory_budget_bytes": None if placed is None else placed.budget_bytes,
        "peak_memory_bytes": estimate.peak_memory_bytes,
        "duration_seconds": estimate.duration_seconds,
        "estimated_from": list(estimate.runs),
        "displaces": None
        if displaced is None
        else {"replica": displaced.engine.id, "alias_is_served_meanwhile": not displaced.is_missed},
    }


def _placed(settings: AlignerSettings, devices: Sequence[Device], need: Need, spare: Spare | None) -> Place:
    if spare is None:
        return place(settings.device_names, devices, need)
    # Once the engine is stopped its memory is free; how much of it others have is seen only then.
    emptied = [device.model_copy(update={"free_bytes": device.total_bytes}) for device in devices]
    found = place(spare.engine.device_names, emptied, need)
    return replace(found, reason=f"{found.reason}, once {spare.engine.id} is stopped and if nobody else has any")


def _start(settings: AlignerSettings, spare: Spare | None, queue: Queue, now: float, allow_downtime: bool) -> Start:
    window = settings.window
    if spare is not None and spare.is_missed and not allow_downtime:
        if window is None:
            return Start(
                "never",
                f"it would stop {spare.engine.id}, without which nobody is answered; ask with --allow-downtime, or set "
                "aligner.maintenance_window",
            )
        if window.closes_at(now) is None:
            opens_at = window.opens_after(now)
            shown = f"the maintenance window opens {shown_time(opens_at, settings)}"
            return Start("in_window", shown, opens_at)
    if queue.before:
        return Start("queued", f"{queue.before} {'run is' if queue.before == 1 else 'runs are'} before it")
    if queue.busy:
        return Start("queued", "every aligner is at work for another alias")
    return Start("now", "an aligner is there, and no run is before it")
