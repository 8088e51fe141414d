"""Who sees whom, drawn by hand: 1 where the token of the row sees that of the column."""

import torch

from alignment.step.batch import Lengths
from alignment.step.flex import PairMasks
from alignment.step.rows import row_mask
from alignment.step.targets import CHOSEN, PROMPT, REJECTED
from alignment.step.visibility import places_of, sees

PAIR, SHORT = Lengths(2, 2, 3), Lengths(1, 1, 0)

#          p p c c r r r
WHOLE = [[1, 0, 0, 0, 0, 0, 0],
         [1, 1, 0, 0, 0, 0, 0],
         [1, 1, 1, 0, 0, 0, 0],
         [1, 1, 1, 1, 0, 0, 0],
         [1, 1, 0, 0, 1, 0, 0],
         [1, 1, 0, 0, 1, 1, 0],
         [1, 1, 0, 0, 1, 1, 1]]  # fmt: skip

# Of two tokens, itself included: the first token of the rejected answer sees the last one of the prompt.
WINDOW_OF_2 = [[1, 0, 0, 0, 0, 0, 0],
               [1, 1, 0, 0, 0, 0, 0],
               [0, 1, 1, 0, 0, 0, 0],
               [0, 0, 1, 1, 0, 0, 0],
               [0, 1, 0, 0, 1, 0, 0],
               [0, 0, 0, 0, 1, 1, 0],
               [0, 0, 0, 0, 0, 1, 1]]  # fmt: skip


def test_the_places_of_two_pairs() -> None:
    places = places_of([PAIR, SHORT])
    assert places.pairs.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert places.parts.tolist() == [PROMPT] * 2 + [CHOSEN] * 2 + [REJECTED] * 3 + [PROMPT, CHOSEN]
    assert places.positions.tolist() == [0, 1, 2, 3, 2, 3, 4, 0, 1]


def test_both_answers_see_the_prompt_and_not_each_other_nor_another_pair() -> None:
    index = torch.arange(9)
    places = places_of([PAIR, SHORT])
    for drawn, window in ((WHOLE, None), (WINDOW_OF_2, 2)):
        seen = sees(places, index[:, None], index[None, :], window).int()
        assert seen[:7, :7].tolist() == drawn
        assert seen[7:, 7:].tolist() == [[1, 0], [1, 1]]
        assert not seen[:7, 7:].any()
        assert not seen[7:, :7].any()


def test_padding_of_a_row_sees_itself_alone_and_is_seen_by_nobody() -> None:
    masks = row_mask([PAIR, SHORT], None).int()
    assert masks[0].tolist() == WHOLE
    assert masks[1].tolist() == [[1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], *torch.eye(7).int()[2:].tolist()]


def test_the_masks_of_a_batch_are_made_once_for_each_length_of_window() -> None:
    masks = PairMasks([PAIR, SHORT], torch.device("cpu"))
    assert masks.of(None) is masks.of(None)
    assert masks.of(2) is masks.of(2)
    assert masks.of(2) is not masks.of(None)
    assert masks.of(5) is masks.of(None)  # the longest completion ends at position 5: such a window hides nothing


def test_blocks_that_no_token_sees_are_skipped() -> None:
    """Three pairs of 256 tokens in blocks of 128: of the 36 blocks each pair needs only its own lower triangle."""
    masks = PairMasks([Lengths(128, 64, 64)] * 3, torch.device("cpu"))
    assert masks.of(None).to_dense().int()[0, 0].tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
