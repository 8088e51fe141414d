"""At most fifty values of a label; what is retired leaves, and makes room."""

import time
from pathlib import Path

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.shared import WorkerFiles
from gateway.telemetry.snapshot import IDLE_SECONDS, RETIRED_SECONDS, PoolReading
from tests.gateway.telemetry.reading import samples


def ask(metrics: Metrics, alias: str, release: str, key: str, times: int = 1) -> None:
    for _ in range(times):
        meter = metrics.meter(alias, release, key)
        meter.began()
        meter.ended("finished", 1, 1, None, 0.1)


def requests(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], float] = {}
    for sample in samples(metrics):
        if sample.name == "alignway_requests_total":
            found[sample.labels["alias"], sample.labels["release"], sample.labels["key"]] = sample.value
    return found


def test_the_fifty_first_key_and_all_after_it_are_counted_as_other() -> None:
    metrics = Metrics()
    for number in range(60):
        ask(metrics, "assistant", "assistant-1", f"key-{number}", times=2)
    found = requests(metrics)
    assert len(found) == 51
    assert found["assistant", "assistant-1", "key-49"] == 2
    assert found["assistant", "assistant-1", "other"] == 20


def test_each_label_has_its_own_fifty() -> None:
    metrics = Metrics()
    for number in range(60):
        ask(metrics, f"alias-{number}", f"release-{number}", "laptop")
    found = requests(metrics)
    assert found["other", "other", "laptop"] == 10
    assert len(found) == 51


def test_two_workers_agree_on_which_values_have_a_name(tmp_path: Path) -> None:
    one, two = Metrics(WorkerFiles(tmp_path)), Metrics(WorkerFiles(tmp_path))
    for number in range(40):
        ask(one, "assistant", "assistant-1", f"one-{number}")
        ask(two, "assistant", "assistant-1", f"two-{number}")
    two._write(*two._snapshot())
    found = requests(one)
    assert len({key for _, _, key in found} - {"other"}) == 50
    assert found["assistant", "assistant-1", "other"] == 30
    assert sum(found.values()) == 80


async def test_series_of_a_retired_release_go_a_while_after_its_last_request() -> None:
    served = frozenset({"assistant-1", "assistant-2"})
    metrics = Metrics(read_pool=lambda: PoolReading(served=served))
    ask(metrics, "assistant", "assistant-1", "laptop")
    ask(metrics, "assistant", "assistant-2", "laptop")
    for meter in metrics._meters.values():
        meter.used_at -= RETIRED_SECONDS + 1
    await metrics.sweep()
    assert len(requests(metrics)) == 2  # served still, however long ago it was asked
    served = frozenset({"assistant-2"})
    assert list(requests(metrics)) == [("assistant", "assistant-2", "laptop")]
    await metrics.sweep()
    assert list(metrics._meters) == [("assistant", "assistant-2", "laptop")]


async def test_a_release_just_retired_is_still_shown_and_one_in_flight_is_kept() -> None:
    metrics = Metrics(read_pool=lambda: PoolReading(served=frozenset({"assistant-2"})))
    ask(metrics, "assistant", "assistant-1", "laptop")
    await metrics.sweep()
    assert list(requests(metrics)) == [("assistant", "assistant-1", "laptop")]
    meter = metrics.meter("assistant", "assistant-1", "laptop")
    meter.began()
    meter.used_at -= RETIRED_SECONDS + 1
    await metrics.sweep()
    assert list(metrics._meters) == [("assistant", "assistant-1", "laptop")]


async def test_nothing_goes_while_nobody_knows_what_is_served_and_no_model_without_release_is_retired() -> None:
    unknown = Metrics()
    ask(unknown, "assistant", "assistant-1", "laptop")
    embedding = Metrics(read_pool=lambda: PoolReading(served=frozenset()))
    ask(embedding, "embed", "", "laptop")
    for metrics in (unknown, embedding):
        for meter in metrics._meters.values():
            meter.used_at -= RETIRED_SECONDS + 1
        await metrics.sweep()
        assert len(requests(metrics)) == 1


async def test_a_retired_release_makes_room_for_a_new_one_and_other_never_falls(tmp_path: Path) -> None:
    served: frozenset[str] | None = None
    metrics = Metrics(WorkerFiles(tmp_path), lambda: PoolReading(served=served))
    for number in range(51):
        ask(metrics, "assistant", f"release-{number}", "laptop")
    assert requests(metrics)["assistant", "other", "laptop"] == 1
    served = frozenset({f"release-{number}" for number in range(1, 51)})
    metrics._meters["assistant", "release-0", "laptop"].used_at -= RETIRED_SECONDS + 1
    labels = metrics._files.keep_labels([{"assistant"}, served, {"laptop"}], time.time() + 61)
    assert "release-0" not in labels[1]
    await metrics.sweep()
    ask(metrics, "assistant", "release-50", "laptop")
    found = requests(metrics)
    assert found["assistant", "other", "laptop"] == 1
    assert found["assistant", "release-50", "laptop"] == 1
    assert ("assistant", "release-0", "laptop") not in found


async def test_a_key_that_nobody_uses_any_more_leaves() -> None:
    metrics = Metrics()
    ask(metrics, "assistant", "assistant-1", "old")
    ask(metrics, "assistant", "assistant-1", "new")
    metrics.meter("assistant", "assistant-1", "old").used_at -= IDLE_SECONDS + 1
    await metrics.sweep()
    assert [key for _, _, key in requests(metrics)] == ["new"]
