"""Rule by rule: which votes make a pair, what it weighs, and why others make none."""

from datetime import UTC, datetime

import pytest

from gateway.contracts.message import Message
from gateway.contracts.pair import Rater, Side
from gateway.feedback.completions import LoggedChoice, Prompt, PromptMismatch, require_one_prompt
from gateway.feedback.hygiene import NOBODY
from gateway.feedback.pairing import (
    Candidate,
    Judgement,
    candidate_of_correction,
    candidates_of_preference,
    candidates_of_ranking,
    pair_of,
    weight_of,
    within_limit,
)
from gateway.settings import FeedbackSettings, PairingSettings, TrustSettings

MESSAGES = (Message(role="user", content="Is it safe?"),)
PROMPT = Prompt(MESSAGES, (), None, "ph_1", compared=MESSAGES)
LONG = "The medicine helps most people and is taken in the morning together with a large glass of plain water. " * 2
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def choice(
    text: str, *, index: int = 0, finish: str | None = "stop", status: str = "finished", prompt: Prompt = PROMPT
) -> LoggedChoice:
    side = Side(
        message=Message(role="assistant", content=text),
        origin="model",
        completion_id="chatcmpl-1",
        index=index,
        release_id="rel_1",
    )
    return LoggedChoice(side, finish, status, "assistant", prompt)


def reason_of(chosen: LoggedChoice, rejected: LoggedChoice) -> str | None:
    [candidate] = candidates_of_preference(chosen, [rejected], weight=1.0, strangers=NOBODY)
    return candidate.reason


def correct(
    original: LoggedChoice, edited: str, edit_kind: str | None = None, *names: str, draw: float = 1.0
) -> Candidate:
    message = Message(role="assistant", content=edited)
    settings = FeedbackSettings(pairing=PairingSettings(fact_names=names))
    return candidate_of_correction(
        original, message, edit_kind=edit_kind, settings=settings, strangers=NOBODY, review_draw=draw
    )


def test_a_vote_between_two_whole_answers_makes_a_pair_of_full_weight() -> None:
    chosen, rejected = choice("Yes.", index=1), choice("No.")
    [candidate] = candidates_of_preference(chosen, [rejected], weight=0.8, strangers=NOBODY)
    assert candidate == Candidate(chosen.side, rejected.side, 0.8, None)


@pytest.mark.parametrize("status", ["failed", "aborted"])
def test_an_answer_that_broke_off_trains_nobody(status: str) -> None:
    assert reason_of(choice("Yes."), choice("No", status=status)) == "failed_completion"
    assert reason_of(choice("Yes", status=status), choice("No.")) == "failed_completion"


def test_an_answer_cut_off_on_one_side_only_would_teach_length() -> None:
    assert reason_of(choice("Yes."), choice("No, bec", finish="length")) == "truncated_output"
    assert reason_of(choice("Yes, bec", finish="length"), choice("No.")) == "truncated_output"
    assert reason_of(choice("Yes, bec", finish="length"), choice("No, bec", finish="length")) is None


def test_a_filtered_answer_makes_no_pair() -> None:
    assert reason_of(choice("Yes."), choice("I can", finish="content_filter")) == "filtered_output"


def test_an_empty_answer_makes_no_pair() -> None:
    assert reason_of(choice("Yes."), choice(" \n")) == "empty_output"
    assert reason_of(choice(""), choice("No.")) == "empty_output"


def test_answers_equal_after_normalisation_make_no_pair() -> None:
    assert reason_of(choice("Cafe\u0301 \r\n"), choice("Caf\u00e9")) == "identical_outputs"


def test_answers_that_call_different_tools_are_not_equal_and_not_empty() -> None:
    def calling(arguments: str, id_: str) -> LoggedChoice:
        call = {**CALL, "id": id_, "function": {"name": "f", "arguments": arguments}}
        message = Message(role="assistant", tool_calls=(call,))
        return LoggedChoice(Side(message=message, origin="model"), "tool_calls", "finished", "assistant", PROMPT)

    assert reason_of(calling("{}", "a"), calling('{"x":1}', "b")) is None
    assert reason_of(calling("{}", "a"), calling("{}", "b")) == "identical_outputs"


def test_the_best_of_many_makes_at_most_three_pairs_and_flawed_ones_do_not_count() -> None:
    rejected = [choice("a"), choice("", index=1), choice("b"), choice("c"), choice("d"), choice("e", status="failed")]
    made = candidates_of_preference(choice("best"), rejected, weight=1.0, strangers=NOBODY)
    candidates = within_limit(made, taken=0, limit=3)
    assert [candidate.reason for candidate in candidates] == [
        None,
        "empty_output",
        None,
        None,
        "pair_limit",
        "failed_completion",
    ]
    assert {candidate.chosen.message.text for candidate in candidates} == {"best"}


def test_a_correction_is_chosen_over_the_original() -> None:
    original = choice("It is safe for everybody at all times of the day.")
    candidate = correct(original, "It is safe for adults.")
    assert (candidate.weight, candidate.reason) == (1.0, None)
    assert candidate.chosen == Side(message=Message(role="assistant", content="It is safe for adults."), origin="human")
    assert candidate.rejected == original.side


def test_a_typo_weighs_little_and_a_fact_in_full_however_short() -> None:
    original = choice(LONG)
    assert correct(original, LONG.replace("medicine", "medecine", 1)).weight == 0.3
    assert correct(original, LONG.replace("is taken", "is not taken", 1)).weight == 1.0
    assert correct(original, LONG.replace("medicine", "medecine", 1), "fix_fact").weight == 1.0
    assert correct(original, LONG.replace("medicine", "medecine", 1), "style").weight == 0.3


def test_an_original_cut_off_at_its_limit_can_be_corrected_but_a_failed_one_cannot() -> None:
    assert correct(choice("It is safe for", finish="length"), "It is safe.").reason is None
    assert correct(choice("It is safe for", status="failed"), "It is safe.").reason == "failed_completion"


def test_a_correction_that_changes_nothing_makes_no_pair() -> None:
    assert correct(choice("It is safe."), "It is safe. \n").reason == "identical_outputs"


def test_answers_to_different_prompts_cannot_be_compared() -> None:
    messages = (Message(role="user", content="Is it cheap?"),)
    other = Prompt(messages, (), None, "ph_2", compared=messages)
    with pytest.raises(PromptMismatch, match=r"message 0 \(user\), character 6"):
        require_one_prompt([choice("Yes."), choice("No.", prompt=other)])


def test_prompts_that_differ_in_their_tools_alone_are_different() -> None:
    other = Prompt(MESSAGES, (CALL,), None, "ph_2", compared=MESSAGES)
    with pytest.raises(PromptMismatch, match="tools or response_format"):
        require_one_prompt([choice("Yes."), choice("No.", prompt=other)])


def test_a_pair_says_where_it_came_from() -> None:
    judgement = Judgement(
        feedback_ids=("fb_1",),
        project_id="proj_1",
        messages=PROMPT.messages,
        tools=(),
        prompt_hash=PROMPT.hash,
        rater=Rater(id_hash="r_1", kind="annotator"),
        judged_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    [candidate] = candidates_of_preference(choice("Yes."), [choice("No.", index=1)], weight=1.0, strangers=NOBODY)
    pair = pair_of(judgement, candidate, "pair_1")
    assert (pair.id, pair.feedback_ids, pair.rater.kind) == ("pair_1", ("fb_1",), "annotator")
    assert (pair.rejected.completion_id, pair.rejected.index, pair.rejected.release_id) == ("chatcmpl-1", 1, "rel_1")


def texts(candidates: tuple[Candidate, ...]) -> list[tuple[str, str]]:
    return [(candidate.chosen.message.text, candidate.rejected.message.text) for candidate in candidates]


def rank(*places: list[LoggedChoice], strength: int | None = None) -> tuple[Candidate, ...]:
    return candidates_of_ranking(places, strength=strength, weight=0.9, strangers=NOBODY)


def test_a_ranking_sets_the_best_against_the_worst_at_nine_tenths() -> None:
    candidates = rank([choice("best")], [choice("second")], [choice("worst")])
    assert texts(candidates) == [("best", "worst")]
    assert candidates[0].weight == 0.9


def test_a_ranking_with_a_clear_winner_sets_it_against_the_second_too() -> None:
    places = [choice("best")], [choice("second")], [choice("worst")]
    assert texts(rank(*places, strength=1)) == [("best", "worst")]
    assert texts(rank(*places, strength=2)) == [("best", "worst"), ("best", "second")]
    assert texts(rank(places[0], places[2], strength=3)) == [("best", "worst")]


def test_choices_that_are_tied_in_a_ranking_make_no_pair() -> None:
    assert rank([choice("one"), choice("other")]) == ()
    candidates = rank([choice("one"), choice("other")], [choice("worst"), choice("as bad")], strength=3)
    assert texts(candidates) == [("one", "worst")]


def test_of_tied_choices_the_first_that_no_rule_strikes_out_stands_for_all() -> None:
    [candidate] = rank([choice(""), choice("other")], [choice("cut", finish="length"), choice("worst")])
    assert texts((candidate,)) == [("other", "worst")]
    [flawed] = rank([choice("")], [choice("worst")])
    assert flawed.reason == "empty_output"


def test_a_rater_makes_at_most_three_pairs_of_one_prompt_over_all_votes() -> None:
    made = candidates_of_preference(choice("best"), [choice("a"), choice("b")], weight=1.0, strangers=NOBODY)
    assert [candidate.reason for candidate in within_limit(made, taken=2, limit=3)] == [None, "pair_limit"]
    assert [candidate.state for candidate in within_limit(made, taken=3, limit=3)] == ["excluded", "excluded"]


def test_a_judge_weighs_a_quarter_whatever_it_says() -> None:
    people, judge = Rater(id_hash="r_1", kind="annotator"), Rater(id_hash="r_2", kind="judge")
    assert weight_of(0.9, people, TrustSettings()) == 0.9
    assert weight_of(0.9, judge, TrustSettings()) == weight_of(1.0, judge, TrustSettings()) == 0.25


def test_a_correction_of_a_fact_is_marked_as_one_and_other_edits_are_not() -> None:
    assert correct(choice(LONG), LONG.replace("is taken", "is not taken", 1)).fact
    assert correct(choice(LONG), LONG.replace("medicine", "medecine", 1), "fix_fact").fact
    assert not correct(choice(LONG), LONG.replace("medicine", "medecine", 1)).fact
    assert not correct(choice("It is fine."), "It is quite all right.").fact


CHINESE = "这种药对大多数病人有效，建议早晨起床以后用一大杯清水送服，服药期间请保持充足的睡眠并且避免剧烈运动。" * 3


def test_a_chinese_typo_weighs_little_and_a_chinese_fact_in_full() -> None:
    typo, fact = correct(choice(CHINESE), CHINESE.replace("睡眠", "睡民", 1)), CHINESE.replace("有效", "无效", 1)
    assert (typo.weight, typo.fact) == (0.3, False)
    assert (correct(choice(CHINESE), fact).weight, correct(choice(CHINESE), fact).fact) == (1.0, True)
    named = correct(choice(CHINESE), CHINESE.replace("清水", "牛奶", 1), None, "牛奶")
    assert (named.weight, named.fact) == (1.0, True)


def test_one_in_ten_rewrites_is_held_for_review() -> None:
    original, rewrite = choice("aaaaaaaaaaaaaaaaaaaa"), "bbbbbbbbbbbbbbbbbbbb"
    held = correct(original, rewrite, draw=0.09)
    assert (held.reason, held.state) == ("review", "held")
    assert correct(original, rewrite, draw=0.1).state == "eligible"
    assert correct(original, "aaaaabbbbbbbbbbbbbbb", draw=0.0).state == "eligible"
    assert correct(choice("天气很好"), "请联系客服", draw=0.0).state == "held"
