"""Which release and which replica take a request: decided from a snapshot, worked out by hand."""

from gateway.routing.policy import EVEN, AliasView, ReleaseView, ReplicaView, able, choose, fraction, resolve

OLD = ReleaseView("rel_old", "assistant-20260101-1", "assistant")
NEW = ReleaseView("rel_new", "assistant-20260101-2", "assistant")


def replica(name: str = "assistant-1", **changes: object) -> ReplicaView:
    facts = {
        "id": name,
        "alias": "assistant",
        "url": f"http://{name}",
        "ready": True,
        "fenced": False,
        "epoch": 1,
        "weights_release_id": "rel_old",
        "adapters": frozenset(),
    }
    return ReplicaView(**(facts | changes))  # type: ignore[arg-type]


def test_full_weights_are_asked_for_by_the_common_name_and_adapters_by_their_release() -> None:
    with_adapter = replica(adapters=frozenset({"rel_new"}))
    assert with_adapter.model_for("rel_old") == "weights"
    assert with_adapter.model_for("rel_new") == "rel-new"
    assert with_adapter.model_for("rel_other") is None


def test_somebody_elses_engine_is_asked_for_its_model_by_its_own_name() -> None:
    assert replica(weights_name="qwen2.5-7b").model_for("rel_old") == "qwen2.5-7b"


def test_nothing_goes_to_a_replica_that_is_fenced_or_starting_or_has_no_address() -> None:
    for broken in (replica(fenced=True), replica(ready=False), replica(url=None)):
        assert able([broken], OLD) == ()


def test_the_least_busy_replica_that_serves_the_release_is_chosen() -> None:
    targets = able([replica("a"), replica("b"), replica("c", weights_release_id="rel_new")], OLD)
    for point in range(20):
        target = choose(targets, {"a": 3, "b": 2, "c": 0}, point, EVEN)
        assert (target.replica_id, target.engine_model, target.release) == ("b", "weights", OLD)


def test_canary_gets_its_share_and_the_same_caller_always_gets_the_same_release() -> None:
    alias = AliasView("assistant", OLD.id, NEW.id, canary_share=0.25)
    answers = [resolve(alias, f"user-{number}".encode()) for number in range(4000)]
    # 4000 draws at 0.25: standard deviation of the share is 0.0068; five of them either way
    assert abs(answers.count(NEW.id) / 4000 - 0.25) < 0.034
    assert [resolve(alias, b"user-7") for _ in range(3)] == [answers[7]] * 3


def test_growing_the_canary_never_takes_a_caller_back_to_the_incumbent() -> None:
    at_5, at_25 = (AliasView("assistant", OLD.id, NEW.id, canary_share=share) for share in (0.05, 0.25))
    for number in range(500):
        key = f"user-{number}".encode()
        if resolve(at_5, key) == NEW.id:
            assert resolve(at_25, key) == NEW.id


def test_without_a_canary_everybody_gets_what_the_alias_serves() -> None:
    assert resolve(AliasView("assistant", OLD.id), b"anybody") == OLD.id


def test_fraction_depends_on_the_salt() -> None:
    assert 0 <= fraction(b"assistant", b"key") < 1
    assert fraction(b"assistant", b"key") != fraction(b"other", b"key")
