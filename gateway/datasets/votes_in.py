"""Which votes a frozen data set stands for, read from its files: the only place where that is kept."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gateway.datasets.freeze import HOLDOUT_FILE, THUMBS_FILE, TRAIN_FILE, files_of

PARTS = {TRAIN_FILE: "train", HOLDOUT_FILE: "holdout", THUMBS_FILE: "thumbs"}


@dataclass
class VotesIn:
    """The votes of a data set."""

    sides: dict[str, str] = field(default_factory=dict)
    """By vote, `train`, `holdout` or `thumbs`: in this order, in each part the row that was judged first. A vote whose
    pairs lie on both sides is one that trained."""
    pairs: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    """How many pairs there are by side, basis and source."""

    def count(self, side: str) -> int:
        """How many votes lie on a side."""
        return sum(1 for one in self.sides.values() if one == side)


def votes_in(folder: Path) -> VotesIn:
    """Every vote of a data set whose files are there."""
    from pyarrow.parquet import ParquetFile

    from gateway.datasets.pair_file import ROWS_AT_A_TIME

    found = VotesIn()
    for name in files_of(folder):
        side = PARTS[name]
        with ParquetFile(folder / name) as table:
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=["basis", "source", "feedback_ids"]):
                columns = batch.to_pydict()
                found.pairs.update((side, *row) for row in zip(columns["basis"], columns["source"], strict=True))
                for votes in columns["feedback_ids"]:
                    for vote in votes:
                        found.sides.setdefault(vote, side)
    return found


def pairs_of_vote(folder: Path, feedback_id: str) -> list[tuple[str, str]]:
    """The pairs of a data set that a vote stands behind, each with its side."""
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    from gateway.datasets.pair_file import ROWS_AT_A_TIME

    found: list[tuple[str, str]] = []
    for name in files_of(folder):
        with ParquetFile(folder / name) as table:
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=["id", "feedback_ids"]):
                ids, votes = (batch.column(batch.schema.get_field_index(one)) for one in ("id", "feedback_ids"))
                rows = pc.list_parent_indices(votes).filter(pc.equal(votes.flatten(), feedback_id))
                found += [(ids[row].as_py(), PARTS[name]) for row in sorted(set(rows.to_pylist()))]
    return found
