"""Where a run goes, worked out by hand, and which engine can be spared for it."""

import pytest

from gateway.contracts.lending import Engine, Spare, spare_of
from gateway.contracts.placement import GIB, Device, Need, NoDevice, place
from gateway.contracts.training import TrainingOptions

BILLION = 10**9


def gpu(number: int, free_gib: float) -> Device:
    return Device(name=f"cuda:{number}", label="H200", total_bytes=139 * GIB, free_bytes=int(free_gib * GIB))


CPU = Device(name="cpu", label="x86", total_bytes=64 * GIB, free_bytes=42 * GIB)
SMALLER = CPU.model_copy(update={"free_bytes": 40 * GIB})
MACHINE = [gpu(0, 3), gpu(6, 30), gpu(7, 50), CPU]


def need(parameters: int | None = 8 * BILLION, usual_gib: int | None = None, **options: object) -> Need:
    usual = None if usual_gib is None else usual_gib * GIB
    return Need(TrainingOptions.model_validate(options), parameters, usual)


@pytest.mark.parametrize(
    ("names", "machine", "wanted", "device"),
    [
        ((), MACHINE, need(), "cuda:7"),  # most is free there
        (("cuda:0", "cuda:6"), MACHINE, need(), "cuda:6"),
        (("cpu",), MACHINE, need(), "cpu"),
        ((), MACHINE, need(device="cpu"), "cpu"),
        ((), [CPU], need(), "cpu"),
        ((), [gpu(0, 3), CPU], need(parameters=None), "cuda:0"),  # how much it takes is not known: it is tried
        ((), [gpu(0, 8), CPU], need(quantize="nf4"), "cuda:0"),  # 8e9 x 0.7 x 1.2 are 6.3 GiB of 7.2
    ],
)
def test_a_run_goes_where_most_is_free_of_what_may_be_used(
    names: tuple[str, ...], machine: list[Device], wanted: Need, device: str
) -> None:
    found = place(names, machine, wanted)
    assert found.device.name == device
    assert found.budget_bytes == int(0.9 * found.device.free_bytes)


@pytest.mark.parametrize(
    ("names", "machine", "wanted", "told"),
    [
        # 8e9 numbers x 2 bytes x 1.2 are 17.9 GiB; of 3 GiB free it may have 2.7.
        (("cuda:0",), MACHINE, need(), "training takes 17.9 GiB at least; free some memory, name another device"),
        ((), [SMALLER], need(), "training takes 37.0 GiB at least"),  # 4 bytes each and 1.25 GiB; it may have 36
        (("cuda:1",), MACHINE, need(), "names cuda:1, and this machine has: cuda:0, cuda:6, cuda:7, cpu"),
        (("cpu",), MACHINE, need(device="cuda"), "asks for the device cuda, and may use: cpu"),
    ],
)
def test_what_has_no_room_is_refused_with_what_to_do(
    names: tuple[str, ...], machine: list[Device], wanted: Need, told: str
) -> None:
    with pytest.raises(NoDevice) as refused:
        place(names, machine, wanted)
    assert told in refused.value.message


def test_less_memory_than_usual_lowers_the_budget_and_says_so() -> None:
    assert (
        "earlier runs took 60.0 GiB, so fewer tokens are scored at a time"
        in place((), MACHINE, need(usual_gib=60)).reason
    )
    assert "earlier" not in place((), MACHINE, need(usual_gib=20)).reason


def engine(number: int, *serves: str, managed: bool = True) -> Engine:
    return Engine(f"assistant-{number}", managed, frozenset(serves))


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        ([engine(1, "a"), engine(2, "a")], (2, False)),
        ([engine(1, "a"), engine(2, "a", "b")], (1, False)),  # the canary is on the second alone
        ([engine(1, "a"), engine(2, "b")], (2, True)),
        ([engine(1, "a"), engine(2)], (1, True)),  # the second is down
        ([engine(1, "a", "b"), engine(2, "a", "b", managed=False)], (1, False)),  # nobody can stop the second
        ([engine(1, "a", managed=False)], None),
    ],
)
def test_an_engine_is_spared_that_the_others_can_do_without(
    engines: list[Engine], expected: tuple[int, bool] | None
) -> None:
    needed = frozenset({"a", "b"} if any("b" in one.serves for one in engines) else {"a"})
    found = spare_of(engines, needed)
    assert found == (None if expected is None else Spare(engines[expected[0] - 1], expected[1]))
