"""The demo's trusted annotator: a plain function that likes short answers and says so in bodies of `POST /v1/feedback`.

It reads answers and nothing else: no model, no clock, no chance.
"""

from collections.abc import Sequence
from typing import Any

from gateway.demo.answer import Answer
from gateway.demo.style import MAX_SENTENCES, ends_sentence, first_sentences, split_sentences, word_count

MIN_CORRECTION_WORDS = 5
"""A cut that leaves less (`Sure!`) would teach nothing worth saying."""

FeedbackBody = dict[str, Any]


def annotate(choices: Sequence[Answer]) -> FeedbackBody | None:
    """What the annotator says of the choices of one completion: a vote, else a correction, else nothing."""
    if not choices:
        return None
    return vote(choices) or correction(choices[0])


def correction(answer: Answer) -> FeedbackBody | None:
    """The answer cut to its first two sentences; nothing where it keeps the style or leaves no whole sentence."""
    shortened = "" if answer.in_style else _house_answer(answer.text)
    if word_count(shortened) < MIN_CORRECTION_WORDS or shortened == answer.text.strip():
        return None
    message = {"role": "assistant", "content": shortened}
    return {"type": "correction", "target": _reference(answer), "message": message}


def vote(choices: Sequence[Answer]) -> FeedbackBody | None:
    """The choice nearest to the style over the one farthest from it; nothing where they are equally near.

    A cut-off answer is never preferred: it would teach to break off.
    """
    ranked = sorted((choice for choice in choices if choice.text.strip()), key=_distance)
    if len(ranked) < 2 or ranked[0].finish_reason != "stop" or _distance(ranked[0]) == _distance(ranked[-1]):
        return None
    chosen, rejected = ranked[0], ranked[-1]
    return {
        "type": "preference",
        "verdict": "prefer",
        "chosen": _reference(chosen),
        "rejected": [_reference(rejected)],
        "shown": ["chosen", "rejected"] if chosen.index < rejected.index else ["rejected", "chosen"],
    }


def _house_answer(text: str) -> str:
    """The first two sentences; the first alone where the second is a heading or cut off; else nothing."""
    for count in range(MAX_SENTENCES, 0, -1):
        shortened = first_sentences(text, count)
        if ends_sentence(shortened):
            return shortened
    return ""


def _distance(answer: Answer) -> tuple[bool, bool, int]:
    """Sorts answers by how far they are from the style. A cut-off answer is worse than any finished one."""
    return (not answer.in_style, answer.finish_reason != "stop", len(split_sentences(answer.text)))


def _reference(answer: Answer) -> dict[str, Any]:
    return {"completion_id": answer.completion_id, "index": answer.index}
