"""Everything planted is found, and named; nothing that only looks like it is."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction.checksums import is_iban, is_resident_id, passes_luhn
from gateway.redaction.finding import found_by
from gateway.redaction.text import _NARROW, BUILT_IN, Redactor

HERE = Path(__file__).parent
PLANTED = [json.loads(line) for line in (HERE / "planted.jsonl").read_text(encoding="utf-8").splitlines()]
NEAR_MISSES = [json.loads(line) for line in (HERE / "near_misses.jsonl").read_text(encoding="utf-8").splitlines()]


def found_in(text: str) -> list[list[str]]:
    findings = found_by(BUILT_IN, text.translate(_NARROW))
    return [[finding.kind, text[finding.start : finding.end]] for finding in findings]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: str(planted["text"])[:30])
def test_everything_planted_is_found_and_nothing_else(planted: dict[str, object]) -> None:
    assert found_in(str(planted["text"])) == planted["found"]


@pytest.mark.parametrize("text", NEAR_MISSES, ids=lambda text: str(text)[:30])
def test_what_only_looks_personal_stays(text: str) -> None:
    assert found_in(text) == []


def test_every_kind_is_planted_in_the_corpus() -> None:
    kinds = {kind for planted in PLANTED for kind, _ in planted["found"]}
    assert kinds == {
        "ACCOUNT", "CARD", "EMAIL", "IBAN", "IP", "PHONE", "PLATE", "RECORD", "RESIDENT_ID", "SECRET"
    }  # fmt: skip


def test_checksums_as_worked_out_by_hand() -> None:
    # 4532: 2 + 3*2 + 5 + 4*2 = 21; 4531: 1 + 6 + 5 + 8 = 20.
    assert not passes_luhn("4532")
    assert passes_luhn("4531")
    # 1*7+1*9+0+1*5+0+5*4+1*2+9*1+4*6+9*3+1*7+2*9+3*10+1*5+0+0+2*2 = 167; 167 mod 11 = 2, whose check is X.
    assert is_resident_id("11010519491231002X")
    assert not is_resident_id("110105194912310021")
    assert not is_resident_id("11010519490231002X")  # 31 February
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765433")


def test_a_number_that_two_detectors_claim_is_named_once_by_the_first() -> None:
    assert found_in("银行卡号 4111111111111111") == [["ACCOUNT", "4111111111111111"]]


def test_a_key_that_was_cut_off_is_taken_out_as_far_as_it_goes() -> None:
    cut = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0"
    assert Redactor().redact(cut) == "[SECRET_1]"


HOSTILE = {
    "digits": "1" * 50_000,
    "digits with spaces": "4 " * 25_000,
    "at signs": "a@" * 25_000,
    "addresses without end": "a@" + "b." * 25_000,
    "dots": "1." * 25_000,
    "colons": "2001:" * 10_000,
    "begins of keys": "-----BEGIN RSA PRIVATE KEY-----" * 1_500,
    "begins of tokens": "eyJ" * 16_000,
    "labels": "病历号" * 16_000,
    "labels with signs": "phone: (" * 6_000,
    "heads of accounts": "DE89 " * 10_000,
    "brackets": "[EMAIL_" * 7_000,
    "plates": "京A" * 25_000,
    "keys": "sk-" * 16_000,
    "pluses": "+1 (" * 12_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_time_grows_with_the_length_alone(text: str) -> None:
    def seconds(of: str) -> float:
        began = time.process_time()
        Redactor().redact(of)
        return time.process_time() - began

    half, whole = min(seconds(text[: len(text) // 2]) for _ in range(2)), min(seconds(text) for _ in range(2))
    assert whole < 3.2 * half + 0.02  # squared, it would be fourfold
    assert whole < 1.0


PIECES = st.sampled_from([str(kind_text[1]) for planted in PLANTED for kind_text in planted["found"]] + NEAR_MISSES)
TEXTS = st.lists(
    st.one_of(PIECES, st.text(max_size=12), st.sampled_from(list(" -.,:：@+[]()（）0138xX病历号"))), max_size=8
)


@given(TEXTS.map("".join))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = Redactor().redact(text)
    assert Redactor().redact(once) == once


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    Redactor().redact(text)
