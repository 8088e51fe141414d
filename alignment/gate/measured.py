"""From what was measured item by item to what the gates look at: as it is, or drawn anew without a difference. Pure.

As it is, it gives a candidate its evidence. Drawn anew, prompts and texts are resampled with replacement, and on half
of them what the candidate did and what its rival did change places: what is left is a comparison of two that are no
different, but disagree as often as these two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alignment.gate.bootstrap import RESAMPLES, mean_interval, ratio_interval
from alignment.gate.items import LEAST_MATCHED_PAIRS, AnswerItem, Items, PairItem, SafetyItem, TextItem, Who
from alignment.gate.rules.evidence import Answers, Drift, Evidence, Perplexity, Safety, Slice
from alignment.gate.slices import Flags, chances, slices_of
from gateway.contracts.release import Interval

_DRAWN_RESAMPLES = 500
"""A drawn comparison is one of hundreds: its intervals need not be as fine."""

Floats = NDArray[np.float64]
Random = np.random.Generator | None
"""Draws anew; None takes everything as it is."""


@dataclass(frozen=True, slots=True)
class _Draw:
    units: NDArray[np.int64]
    """Which prompts or texts, in their order."""
    exchanged: Flags
    """Of each of them, whether candidate and rival change places."""
    resamples: int


def evidence_of_items(items: Items, random: Random = None) -> Evidence:
    """What the gates look at: as it was measured, or in one drawn comparison."""
    evidence = Evidence(
        holdout_pairs=len(items.pairs),
        accuracy=None,
        accuracy_difference=None,
        perplexity=tuple(_perplexity(items.texts, items.rival, random)),
        answers=_answers(items.answers, items.rival, random),
        drift=_drift(items.answers, random),
        changed_answers=_changed(items),
        safety=_safety(items.safety, items.rival, random),
    )
    return _with_pairs(evidence, items, random) if items.pairs else evidence


def _with_pairs(evidence: Evidence, items: Items, random: Random) -> Evidence:
    rival = items.rival
    pairs = _OnPairs.of(items.pairs, rival, random)
    return replace(
        evidence,
        accuracy=pairs.accuracy(),
        accuracy_difference=pairs.gain(rival),
        accuracy_difference_base=pairs.gain("base") if rival == "incumbent" else None,
        margin_difference=pairs.margin_gain(rival),
        matched_pairs=int(pairs.matched.sum()),
        matched_difference=pairs.matched_gain(rival),
        slices=tuple(pairs.by_slice(rival)),
    )


@dataclass(frozen=True, slots=True)
class _OnPairs:
    """Held-out pairs under every model, as drawn."""

    labels: NDArray[np.int64]
    """The prompt of each, as it was drawn."""
    margins: Mapping[Who, Floats]
    """Chosen minus rejected mean log-probability, nats per token."""
    matched: Flags
    slices: Mapping[str, Flags]
    resamples: int

    @classmethod
    def of(cls, pairs: Sequence[PairItem], rival: Who | None, random: Random) -> "_OnPairs":
        clusters: dict[str, list[int]] = {}
        for place, pair in enumerate(pairs):
            clusters.setdefault(pair.prompt, []).append(place)
        members = [clusters[prompt] for prompt in sorted(clusters)]
        draw = _draw(len(members), random)
        sizes = [len(members[unit]) for unit in draw.units]
        places = [place for unit in draw.units for place in members[unit]]
        picked = [pairs[place] for place in places]
        margins = {who: np.array([pair.margin(who) for pair in picked]) for who in picked[0].scores}
        exchanged = np.repeat(draw.exchanged, sizes)
        matched = np.array([pair.is_matched for pair in picked])
        labels = np.repeat(np.arange(len(sizes)), sizes)
        slices = {name: among[places] for name, among in slices_of(pairs).items()}
        return cls(labels, _exchanged(margins, rival, exchanged), matched, slices, draw.resamples)

    def accuracy(self) -> Interval:
        return self._mean(_right(self.margins["candidate"]))

    def gain(self, other: Who | None) -> Interval | None:
        if other is None or other not in self.margins:
            return None
        return self._mean(self._gains(other))

    def margin_gain(self, other: Who | None) -> Interval | None:
        return None if other is None else self._mean(self.margins["candidate"] - self.margins[other])

    def matched_gain(self, other: Who | None) -> Interval | None:
        if other is None or self.matched.sum() < LEAST_MATCHED_PAIRS:
            return None
        return self._among(self.matched, self._gains(other))

    def by_slice(self, other: Who | None) -> list[Slice]:
        if other is None:
            return []
        gains, slices = self._gains(other), {name: among for name, among in self.slices.items() if among.any()}
        found = chances(gains, self.labels, slices, self.resamples)
        return [
            Slice(name, int(among.sum()), self._among(among, gains), chance)
            for (name, among), chance in zip(slices.items(), found, strict=True)
        ]

    def _among(self, those: Flags, values: Floats) -> Interval:
        return mean_interval(values[those], self.labels[those], resamples=self.resamples)

    def _gains(self, other: Who) -> Floats:
        return _right(self.margins["candidate"]) - _right(self.margins[other])

    def _mean(self, values: Floats) -> Interval:
        return mean_interval(values, self.labels, resamples=self.resamples)


def _perplexity(texts: Sequence[TextItem], rival: Who | None, random: Random) -> list[Perplexity]:
    found = []
    for language in dict.fromkeys(text.language for text in texts):
        ours = [text for text in texts if text.language == language]
        draw = _draw(len(ours), random)
        tokens = np.array([text.tokens for text in ours])[draw.units].sum()
        nats = {who: np.array([text.nats[who] for text in ours])[draw.units] for who in ours[0].nats}
        of = {who: float(np.exp(sums.sum() / tokens)) for who, sums in _exchanged(nats, rival, draw.exchanged).items()}
        base = of.get("base", of["candidate"])
        found.append(Perplexity(language, of["candidate"], base, of.get("incumbent", base)))
    return found


def _answers(answers: Sequence[AnswerItem], rival: Who | None, random: Random) -> Answers | None:
    if not answers or "base" not in answers[0].figures:
        return None
    draw = _draw(len(answers), random)

    def means(figure: str) -> dict[Who, float]:
        values = {who: np.array([answer.figures[who][figure] for answer in answers]) for who in answers[0].figures}
        drawn = {who: one[draw.units] for who, one in values.items()}
        return {who: float(one.mean()) for who, one in _exchanged(drawn, rival, draw.exchanged).items()}

    ended, repetition, length = (means(f"generation_{name}") for name in ("ended_share", "repetition", "mean_tokens"))
    return Answers(
        prompts=len(answers),
        empty=round(means("generation_empty_share")["candidate"] * len(answers)),
        ended=ended["candidate"],
        ended_base=ended["base"],
        repetition=repetition["candidate"],
        repetition_base=repetition["base"],
        length_tokens=length["candidate"],
        length_tokens_base=length["base"],
    )


def _drift(answers: Sequence[AnswerItem], random: Random) -> Drift | None:
    """Nothing is exchanged: how far the incumbent's own answers lie from the base was not measured."""
    draw = _draw(len(answers), random)
    drawn = [answers[unit] for unit in draw.units]
    measured = [(number, one) for number, one in enumerate(drawn) if one.kl_nats is not None]
    if not measured:
        return None
    sums, tokens = np.array([one.kl_nats for _, one in measured]), np.array([one.kl_tokens for _, one in measured])
    labels = np.array([number for number, _ in measured])
    changed = {who: float(np.mean([one.reads_otherwise(who) for one in drawn])) for who in ("incumbent", "base")}
    return Drift(
        prompts=len(answers),
        kl=ratio_interval(sums, tokens, labels, resamples=draw.resamples),
        changed={f"the {who}": share for who, share in changed.items()},
    )


def _safety(items: Sequence[SafetyItem], rival: Who | None, random: Random) -> Safety | None:
    if not items or rival is None:
        return None
    draw = _draw(len(items), random)
    drawn = [items[unit] for unit in draw.units]
    failed = {who: np.array([item.failed[who] for item in drawn], dtype=np.float64) for who in drawn[0].failed}
    sides, harmful = _exchanged(failed, rival, draw.exchanged), np.array([item.is_harmful for item in drawn])
    rise = sides["candidate"] - sides[rival]
    return Safety(
        harmful=int(harmful.sum()),
        harmless=int((~harmful).sum()),
        unsafe_rise=float(rise[harmful].mean()) if harmful.any() else 0.0,
        refused_rise=float(rise[~harmful].mean()) if not harmful.all() else 0.0,
        newly=tuple(item.prompt for item, more in zip(drawn, rise, strict=True) if more > 0),
    )


def _changed(items: Items) -> int | None:
    if not items.answers or items.rival is None:
        return None
    return sum(answer.reads_otherwise(items.rival) for answer in items.answers)


def _draw(count: int, random: Random) -> _Draw:
    if random is None:
        return _Draw(np.arange(count), np.zeros(count, dtype=bool), RESAMPLES)
    return _Draw(random.integers(0, max(count, 1), count), random.random(count) < 0.5, _DRAWN_RESAMPLES)


def _exchanged(values: Mapping[Who, Floats], rival: Who | None, places: Flags) -> dict[Who, Floats]:
    """The values, those of candidate and rival exchanged where it is said."""
    if rival is None:
        return dict(values)
    ours, theirs = values["candidate"], values[rival]
    return {**values, "candidate": np.where(places, theirs, ours), rival: np.where(places, ours, theirs)}


def _right(margins: Floats) -> Floats:
    """1 where the chosen side is likelier, else 0; a tie is no success."""
    return (margins > 0).astype(np.float64)
