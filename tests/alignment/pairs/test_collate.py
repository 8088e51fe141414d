"""Chosen rows first, then rejected rows; padding is neither attended to nor learnt."""

from alignment.pairs.collate import PairCollator
from alignment.pairs.render import TokenPair


def test_a_batch_of_two_pairs_laid_out_by_hand() -> None:
    first = TokenPair("a", "ph_a", 0.5, prompt=[5, 6], chosen=[7, 1], rejected=[1])
    second = TokenPair("b", "ph_b", 1.5, prompt=[8], chosen=[1], rejected=[9, 9, 1])
    batch = PairCollator(pad_id=0)([first, second])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1], [8, 1, 0, 0], [5, 6, 1, 0], [8, 9, 9, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["completion_mask"].int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1]]
    assert batch["weights"].tolist() == [0.5, 1.5]
