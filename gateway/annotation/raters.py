"""Who annotates: the key, or whom it may name."""

from gateway.annotation.bodies import AnnotatorBody
from gateway.contracts.pair import Rater
from gateway.feedback import bodies
from gateway.feedback.identity import Caller, KeyedHashes, own_rater, rater_of


class _Named(bodies.Body):
    """The part of a vote that names its rater."""


def annotator_of(caller: Caller, body: AnnotatorBody, hashes: KeyedHashes) -> Rater:
    """The rater behind a call: the same one, under the same hash, whose votes come to `/v1/feedback`.

    Raises `NotPermitted` if the key names somebody and may not.
    """
    if body.rater is None:
        rater = own_rater(caller, hashes)
    else:
        named = _Named(rater=bodies.Rater(id=body.rater.id, kind="annotator"))
        rater = rater_of(caller, named, hashes)
    return rater.model_copy(update={"kind": "annotator"})
