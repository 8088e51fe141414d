"""Which bodies are taken, and what a client is told of those that are not."""

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import (
    CorrectionBody,
    PairBatchBody,
    PairBody,
    PreferenceBody,
    RankingBody,
    RatingBody,
    parse_body,
)

A, B, C = ({"completion_id": f"chatcmpl-{letter}"} for letter in "ABC")
PREFERENCE = {"type": "preference", "verdict": "prefer", "chosen": B, "rejected": [A]}
CORRECTION = {"type": "correction", "target": A, "message": {"role": "assistant", "content": "Better."}}
PAIR = {
    "type": "pair",
    "source": "crm",
    "licence": "internal",
    "input": {"messages": [{"role": "user", "content": "Hi"}]},
    "preferred_output": [{"role": "assistant", "content": "Hello."}],
    "non_preferred_output": [{"role": "assistant", "content": "What?"}],
}


def refusal(body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(body)
    return caught.value


def test_the_bodies_of_the_design_are_taken() -> None:
    common = {
        "rater": {"id": "u-81", "kind": "end_user"},
        "tags": ["too_long"],
        "comment": "free text",
        "metadata": {"app": "helpdesk"},
        "external_id": "crm-5512",
    }
    vote = parse_body(PREFERENCE | common | {"shown": ["rejected", "chosen"], "strength": 2})
    assert isinstance(vote, PreferenceBody)
    assert [target.completion_id for target in vote.targets] == ["chatcmpl-B", "chatcmpl-A"]
    assert isinstance(parse_body(CORRECTION | common | {"edit_kind": "fix_fact"}), CorrectionBody)
    assert isinstance(parse_body(PAIR | common), PairBody)
    assert isinstance(parse_body({"type": "pair", "source": "s", "licence": "l", "pairs": [{}]}), PairBatchBody)
    assert isinstance(parse_body({"type": "preference", "verdict": "tie", "choices": [A, B]}), PreferenceBody)
    ranking = parse_body({"type": "ranking", "ranking": [[A], [B, C]], "strength": 2} | common)
    assert isinstance(ranking, RankingBody)
    assert [target.completion_id[-1] for target in ranking.targets] == ["A", "B", "C"]
    thumb = parse_body({"type": "rating", "target": A, "name": "thumbs", "value": True} | common)
    assert isinstance(thumb, RatingBody)
    assert thumb.value is True
    scaled = {"type": "rating", "target": A, "name": "helpfulness", "value": 4, "scale": {"min": 1, "max": 5}}
    assert isinstance(parse_body(scaled), RatingBody)
    assert isinstance(parse_body({"type": "preference", "verdict": "both_bad", "choices": [A, B]}), PreferenceBody)


def test_an_unsupported_type_is_answered_with_those_that_are_supported() -> None:
    error = refusal({"type": "praise", "target": A})
    assert (error.status, error.code, error.param) == (400, "unsupported_type", "type")
    assert "`preference`, `ranking`, `rating`, `correction`, `pair`" in error.message


@pytest.mark.parametrize("body", [[], "vote", None, 1, {}, {"type": None}, {"type": ["preference"]}])
def test_what_is_no_feedback_at_all_is_refused(body: object) -> None:
    assert refusal(body).status == 400


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"surprise": 1}, "surprise"),
        ({"chosen": {"completion_id": "x", "idx": 1}}, "chosen.idx"),
        ({"chosen": {"completion_id": "x", "index": -1}}, "chosen.index"),
        ({"chosen": {"index": 1}}, "chosen.completion_id"),
        ({"rejected": [A] * 17}, "rejected"),
        ({"strength": 4}, "strength"),
        ({"comment": "x" * 4001}, "comment"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"tags": ["x" * 65]}, "tags[0]"),
        ({"tags": ["x"] * 17}, "tags"),
        ({"shown": ["left"]}, "shown[0]"),
        ({"rater": {"id": "u", "kind": "robot"}}, "rater.kind"),
        ({"verdict": "maybe"}, "verdict"),
    ],
)
def test_a_mistake_is_named_with_its_place(change: dict[str, Any], param: str) -> None:
    error = refusal(PREFERENCE | change)
    assert (error.status, error.param) == (400, param)
    assert param in error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "preference", "chosen": A}, "at least one `rejected`"),
        (PREFERENCE | {"choices": [A, B]}, "`choices` goes with"),
        (PREFERENCE | {"rejected": [B]}, "named twice"),
        (PREFERENCE | {"rejected": [A, C, A]}, "named twice"),
        (PREFERENCE | {"shown": ["chosen", "chosen"]}, "`shown` lists"),
        (PREFERENCE | {"verdict": "tie"}, "exactly two `choices`"),
        ({"type": "preference", "verdict": "both_bad", "choices": [A]}, "exactly two `choices`"),
        ({"type": "preference", "verdict": "tie", "choices": [A, A]}, "named twice"),
    ],
)
def test_fields_that_do_not_go_together_are_explained(body: dict[str, Any], words: str) -> None:
    assert words in refusal(body).message


def test_a_limit_is_met_exactly() -> None:
    parse_body(PREFERENCE | {"comment": "x" * 4000, "metadata": {f"{i:064}": "x" * 512 for i in range(16)}})


def test_two_choices_of_one_completion_are_two_choices() -> None:
    body = parse_body(PREFERENCE | {"chosen": A | {"index": 1}, "rejected": [A]})
    assert isinstance(body, PreferenceBody)
    assert [target.index for target in body.targets] == [1, 0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"type": "ranking"}, "ranking"),
        ({"type": "ranking", "ranking": []}, "ranking"),
        ({"type": "ranking", "ranking": [[A]]}, "ranking"),
        ({"type": "ranking", "ranking": [[A], []]}, "ranking[1]"),
        ({"type": "ranking", "ranking": [[A], [A]]}, "ranking"),
        ({"type": "ranking", "ranking": [[A], [B, {"index": 1}]]}, "ranking[1][1].completion_id"),
        ({"type": "ranking", "ranking": [[A], [B]], "strength": 4}, "strength"),
        ({"type": "rating", "name": "thumbs", "value": True}, "target"),
        ({"type": "rating", "target": A, "value": True}, "name"),
        ({"type": "rating", "target": A, "name": "thumbs"}, "value"),
        ({"type": "rating", "target": A, "name": "thumbs", "value": "yes"}, "value"),
        ({"type": "rating", "target": A, "name": "x", "value": 1, "scale": {"min": 1}}, "scale.max"),
    ],
)
def test_a_bad_ranking_or_rating_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    error = refusal(body)
    assert (error.status, error.param or "ranking") == (400, param)
