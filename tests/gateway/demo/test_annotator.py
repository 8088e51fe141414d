from gateway.demo.annotator import annotate, correction, vote
from gateway.demo.answer import Answer
from gateway.feedback.bodies import parse_body

LONG = "Tea is made from leaves. Coffee is made from beans. Both are hot. Both wake you."
SHORT = "Tea is made from leaves. Coffee is made from beans."


def answer(text: str, index: int = 0, finish_reason: str = "stop") -> Answer:
    return Answer(completion_id="chatcmpl-1", index=index, text=text, finish_reason=finish_reason, release_id="rel_1")


def test_a_long_answer_is_corrected_to_its_first_two_sentences():
    assert annotate([answer(LONG)]) == {
        "type": "correction",
        "target": {"completion_id": "chatcmpl-1", "index": 0},
        "message": {"role": "assistant", "content": SHORT},
    }


def test_a_short_answer_needs_no_word():
    assert annotate([answer(SHORT)]) is None
    assert annotate([answer("")]) is None
    assert annotate([]) is None


def test_a_cut_off_answer_is_corrected_to_its_whole_sentences():
    body = correction(answer("Tea is made from leaves. Coffee is", finish_reason="length"))
    assert body is not None
    assert body["message"]["content"] == "Tea is made from leaves."


def test_nothing_is_taught_where_no_whole_sentence_is_left():
    assert correction(answer("Coffee is made from the", finish_reason="length")) is None
    assert correction(answer("Here are some useful tips:\n- tea\n- coffee\n- milk")) is None
    assert correction(answer("Sure! Right! Coffee is made from beans, as you know.")) is None


def test_a_whole_short_answer_that_ran_out_of_tokens_is_not_corrected_to_itself():
    assert correction(answer(SHORT, finish_reason="length")) is None


def test_the_choice_in_style_wins_whichever_comes_first():
    assert vote([answer(LONG, 0), answer(SHORT, 1)]) == {
        "type": "preference",
        "verdict": "prefer",
        "chosen": {"completion_id": "chatcmpl-1", "index": 1},
        "rejected": [{"completion_id": "chatcmpl-1", "index": 0}],
        "shown": ["rejected", "chosen"],
    }
    body = vote([answer(SHORT, 0), answer(LONG, 1)])
    assert body is not None
    assert (body["chosen"]["index"], body["shown"]) == (0, ["chosen", "rejected"])


def test_of_two_long_choices_the_one_with_fewer_sentences_wins_unless_it_was_cut_off():
    longer = LONG + " Milk is white."
    body = vote([answer(longer, 0), answer(LONG, 1)])
    assert body is not None
    assert body["chosen"]["index"] == 1
    body = vote([answer(longer, 0), answer(LONG, 1, finish_reason="length")])
    assert body is not None
    assert body["chosen"]["index"] == 0


def test_equal_choices_get_no_vote_and_the_first_is_corrected_if_it_is_long():
    assert vote([answer(LONG, 0), answer(LONG, 1)]) is None
    assert annotate([answer(SHORT, 0), answer(SHORT, 1)]) is None
    body = annotate([answer(LONG, 0), answer(LONG, 1)])
    assert body is not None
    assert body["type"] == "correction"


def test_an_empty_choice_is_never_preferred():
    assert vote([answer("", 0), answer(LONG, 1)]) is None


def test_the_gateway_takes_both_bodies():
    for choices in ([answer(LONG)], [answer(LONG, 0), answer(SHORT, 1)]):
        body = annotate(choices)
        assert body is not None
        assert parse_body(body).type == body["type"]
