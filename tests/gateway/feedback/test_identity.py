"""A vote that is sent again is found by its natural key, also one that was stored by an earlier version."""

import hashlib
import json

from gateway.contracts.pair import Rater
from gateway.feedback.bodies import ChoiceRef
from gateway.feedback.identity import key_of_content, key_of_targets

RATER = Rater(id_hash="r_0123456789abcdef", kind="end_user")


def digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps([RATER.id_hash, *parts]).encode()).hexdigest()[:48]


def test_a_natural_key_is_the_digest_of_rater_metric_and_choices_in_their_order() -> None:
    refs = [ChoiceRef(completion_id=name, index=index) for name, index in (("chatcmpl-b", 1), ("chatcmpl-a", 0))]
    assert key_of_targets(RATER, "preference", refs) == "preference:" + digest("chatcmpl-a#0", "chatcmpl-b#1")
    odd = ChoiceRef(completion_id='a"\\\n为\x7f', index=2)
    assert key_of_targets(RATER, "rating", [odd], "好") == "rating:" + digest("name:好", 'a"\\\n为\x7f#2')
    assert key_of_content(RATER, "abc", None) == "pair:" + digest("abc", "")
