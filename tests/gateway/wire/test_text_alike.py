"""Chunks told by their bytes give what decoding them gives, whatever stands in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.wire.reply import Signature, StreamedAnswer
from gateway.wire.text_alike import LESSONS

SIGNATURE = Signature("chatcmpl-1", 1, "assistant-1", "rel_1")
ROLE = b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
FORMS = (
    '{"id":"x","choices":[{"index":0,"delta":{"content":%s},"logprobs":null,"finish_reason":null}]}',
    '{"choices":[{"delta":{"content":"other","content":%s}}],"note":{"content":"a"}}',
    '{"note":{"content":%s},"choices":[{"delta":{"content": "a"}}]}',
    '{"note":{"content":"a"},"choices":[{"delta":{"content":%s}}]}',
)


def stream() -> StreamedAnswer:
    answer = StreamedAnswer(SIGNATURE)
    answer.take(ROLE)
    return answer


@given(st.sampled_from(FORMS), st.lists(st.text(), min_size=1, max_size=8), st.booleans())
def test_a_stream_reads_the_same_chunk_by_chunk_and_each_chunk_by_itself(
    form: str, texts: list[str], plain: bool
) -> None:
    together, said = stream(), ""
    for text in ["a", *texts]:
        raw = (form % json.dumps(text, ensure_ascii=plain)).encode(errors="surrogatepass")
        alone = stream()
        assert together.take(raw) == alone.take(raw)
        said += json.loads(alone.choices_json())[0]["message"]["content"]
    assert json.loads(together.choices_json())[0]["message"]["content"] == said


@pytest.mark.parametrize("raw", [b'","x":"', b"\\", b"\x01", b"\xff", b'","role":"tool'])
def test_what_is_no_plain_text_is_decoded(raw: bytes) -> None:
    before, after = b'{"choices":[{"delta":{"content":"', b'"}}]}'
    answer, alone = stream(), stream()
    for text in (b"a", b"b"):
        answer.take(before + text + after)
    results: list[object] = []
    for each in (answer, alone):
        try:
            results.append(each.take(before + raw + after))
        except UpstreamError as error:
            results.append(type(error))
    assert results[0] == results[1]


def test_a_stream_whose_chunks_always_differ_is_soon_left_alone() -> None:
    answer = stream()
    for number in range(LESSONS + 2):
        event = answer.take(b'{"created":%d,"choices":[{"delta":{"content":"t"}}]}' % number)
        assert event is not None
        assert b'"content":"t"' in event
    assert not answer._like.may_learn
