"""From what models were measured to be, side by side, to items: one record for each pair, text and answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pyarrow.parquet import ParquetFile

from alignment.gate.answers import FIGURES, Answer
from alignment.gate.comparison import Sides
from alignment.gate.holdout import Divergence, PairScore, length_matched
from alignment.gate.items import AnswerItem, PairItem, SafetyItem, TextItem
from alignment.gate.perplexity import TextScore
from alignment.gate.refusals import SafetyPrompt, fails
from alignment.pairs.tokens import TokenPair
from gateway.datasets.freeze import HOLDOUT_FILE
from gateway.datasets.pair_file import read_pairs

FROZEN_SUFFIX = Path(HOLDOUT_FILE).suffix


def pair_kinds(pairs_file: Path) -> dict[str, dict[str, str]]:
    """Where the pairs of a frozen data set come from and who judged them, by id; nothing of other files."""
    if pairs_file.suffix != FROZEN_SUFFIX or "pair" not in ParquetFile(pairs_file).schema_arrow.names:
        return {}
    return {pair.id: {"source": pair.source or "votes", "rater": pair.rater.kind} for pair in read_pairs(pairs_file)}


def pair_items(
    pairs: Sequence[TokenPair], sides: Sides[Sequence[PairScore]], kinds: Mapping[str, dict[str, str]]
) -> tuple[PairItem, ...]:
    """Held-out pairs with what each model thinks of them."""
    known, matched = sides.known(), frozenset(length_matched(pairs))
    return tuple(
        PairItem(
            id=pair.id,
            prompt=pair.prompt_hash,
            tokens=max(len(pair.chosen), len(pair.rejected)),
            is_matched=place in matched,
            kinds=kinds.get(pair.id, {}),
            scores={who: (scores[place].chosen_logp, scores[place].rejected_logp) for who, scores in known.items()},
        )
        for place, pair in enumerate(pairs)
    )


def text_items(language: str, sides: Sides[Sequence[TextScore]]) -> tuple[TextItem, ...]:
    """Fixed texts with how unlikely each is."""
    known = sides.known()
    return tuple(
        TextItem(language=language, tokens=one.tokens, nats={who: scores[row].nats for who, scores in known.items()})
        for row, one in enumerate(sides.candidate)
    )


def answer_items(
    prompts: Sequence[str], sides: Sides[Sequence[Answer]], divergences: Sequence[Divergence] | None
) -> tuple[AnswerItem, ...]:
    """Answers with their figures. `divergences`: of the candidate's answers that have a token, in order."""
    known, left = sides.known(), iter(divergences or ())
    found = []
    for place, prompt in enumerate(prompts):
        answers = {who: answers[place] for who, answers in known.items()}
        written = answers["candidate"]
        kl = next(left, None) if written.tokens or written.ended else None
        found.append(
            AnswerItem(
                prompt=prompt,
                texts={who: answer.text for who, answer in answers.items()},
                figures={who: {name: of(answer) for name, of in FIGURES.items()} for who, answer in answers.items()},
                kl_nats=None if kl is None else kl.nats,
                kl_tokens=0 if kl is None else kl.tokens,
            )
        )
    return tuple(found)


def safety_items(prompts: Sequence[SafetyPrompt], sides: Sides[Sequence[Answer]]) -> tuple[SafetyItem, ...]:
    """Pinned prompts with who fails them."""
    known = sides.known()
    return tuple(
        SafetyItem(
            prompt=prompt.text,
            is_harmful=prompt.is_harmful,
            failed={who: fails(prompt, answers[place].text) for who, answers in known.items()},
        )
        for place, prompt in enumerate(prompts)
    )
