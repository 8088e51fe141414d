import pytest

from gateway.demo.style import ends_sentence, first_sentences, keeps_style, split_sentences, word_count


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains. Take a coat!", ["It rains.", "Take a coat!"]),
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("Bring fruit, e.g. Apples or pears. Enjoy.", ["Bring fruit, e.g. Apples or pears.", "Enjoy."]),
        ("Nuts, seeds, etc. are fine. Eat.", ["Nuts, seeds, etc. are fine.", "Eat."]),
        ("We sell nuts, seeds, etc. Come in.", ["We sell nuts, seeds, etc.", "Come in."]),
        ("He lives in the U.S. It is big.", ["He lives in the U.S.", "It is big."]),
        ("The U.S. Senate met at 5 p.m. on Monday.", ["The U.S. Senate met at 5 p.m. on Monday."]),
        ("A book by J. K. Rowling. Read it.", ["A book by J. K. Rowling.", "Read it."]),
        ("The answer is no. Go.", ["The answer is no.", "Go."]),
        ("Rule No. 5 holds.", ["Rule No. 5 holds."]),
        ("That was in 2020. Then it ended.", ["That was in 2020.", "Then it ended."]),
        ("At 10:30. Then home.", ["At 10:30.", "Then home."]),
        ("Wait... what? Yes", ["Wait... what?", "Yes"]),
        ("small letters. still two.", ["small letters.", "still two."]),
        (
            'He said "Stop!" and left. She said "Go." Then he went.',
            ['He said "Stop!" and left.', 'She said "Go."', "Then he went."],
        ),
        ("(It works.) **Good.** Next", ["(It works.)", "**Good.**", "Next"]),
        ("See example.com. It works.", ["See example.com.", "It works."]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("Great! \U0001f600 Go.", ["Great!", "\U0001f600 Go."]),
    ],
)
def test_a_full_stop_ends_a_sentence_only_where_a_reader_would_say_so(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1. Drink water. 2. Sleep well.", 2),
        ("Tips: 1. Drink water. 2. Sleep well.", 2),
        ("Tips:\n\n1. Drink water\n2. Sleep well\n- Rest", 4),
        ("# A heading\nOne sentence.", 2),
        ("Roses are red,\nViolets are blue", 2),
        ("a line broken\nby a narrow editor. End.", 2),
        ("One.\n\n---\n\n***\n", 1),
        ("", 0),
        (" \n\t ", 0),
        ("...", 0),
    ],
)
def test_headings_lines_and_list_items_count_and_ornaments_do_not(text, count):
    assert len(split_sentences(text)) == count


def test_chinese_and_japanese_sentences_need_no_space():
    assert split_sentences("水很重要。你要多喝水！好吗？") == ["水很重要。", "你要多喝水！", "好吗？"]
    assert split_sentences("これはペンです。「はい。」") == ["これはペンです。", "「はい。」"]


def test_first_sentences_keeps_the_line_breaks_between_them():
    text = "Here is why:\n\n1. It is cheap. It is near.\n2. It is new."
    assert first_sentences(text, 2) == "Here is why:\n\n1. It is cheap."
    assert first_sentences("One. Two", 5) == "One. Two"
    assert first_sentences("", 2) == ""


@pytest.mark.parametrize(
    ("text", "finish_reason", "kept"),
    [
        ("One. Two.", "stop", True),
        ("One.", "stop", True),
        ("One. Two. Three.", "stop", False),
        ("One. Two.", "length", False),
        ("One.", None, False),
        ("", "stop", False),
        ("...", "stop", False),
    ],
)
def test_the_style_is_one_or_two_sentences_that_the_model_ended_itself(text, finish_reason, kept):
    assert keeps_style(text, finish_reason) is kept


def test_words_are_counted_once_with_their_apostrophes_hyphens_and_decimals():
    assert word_count("It's a well-known price: 3.50, or 1,000!") == 7
    assert word_count("喝水 is good") == 4
    assert word_count("-- ** _ ...") == 0


@pytest.mark.parametrize(
    ("text", "ended"), [("Yes.", True), ("**Yes!**\n", True), ("好。", True), ("Tips:", False), ("", False)]
)
def test_ends_sentence_looks_at_the_last_mark(text, ended):
    assert ends_sentence(text) is ended
