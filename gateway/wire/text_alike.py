"""Chunks of a stream that differ from an earlier one in their text alone are known by their bytes. Pure.

Nearly every chunk of nearly every stream is such a one, and to decode and encode it was most of what it cost.
"""

import msgspec

from gateway.wire.reply_types import RawChunk, RawChunkChoice

PROBE = b"another text"
LESSONS = 3
"""From so many chunks of a stream it is learnt where the text stands."""
decode_chunk = msgspec.json.Decoder(RawChunk).decode


class TextAlike:
    """What one stream's chunks of text have in common: around the text, an engine writes the same bytes each time."""

    __slots__ = ("_after", "_before", "_lessons", "end", "said", "start")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._lessons = LESSONS
        self.start, self.end = 0, 0
        """Where in such a chunk its text stands, as JSON without the quotes."""
        self.said: list[str] = []
        """Where the texts are collected."""

    @property
    def may_learn(self) -> bool:
        """Whether another chunk may be learnt from; a stream whose chunks differ is not studied for ever."""
        return self._lessons > 0

    def text_in(self, raw: bytes) -> str | None:
        """The text of a chunk that differs in it alone; None: read the chunk."""
        if not self.end or not (raw.startswith(self._before) and raw.endswith(self._after)):
            return None
        try:
            text = raw[self.start : self.end].decode()
        except UnicodeDecodeError:
            return None
        # Without quotes, backslashes and control characters a text is its own JSON.
        return text if text.isprintable() and text and '"' not in text and "\\" not in text else None

    def learn(self, raw: bytes, encoded: bytes, said: list[str]) -> None:
        """Look where a chunk has its text; another text in its place must be read as that text."""
        self._lessons -= 1
        before, found, after = raw.partition(b'"content":' + encoded)
        if not found:
            return
        before, after = before + b'"content":"', b'"' + after
        try:
            choices = decode_chunk(before + PROBE + after).choices
        except (ValueError, RecursionError):
            return
        if choices and text_alone(choices[0]) == PROBE.decode():
            self._before, self._after, self.said = before, after, said
            self.start, self.end = len(before), -len(after)


def text_alone(choice: RawChunkChoice) -> str | None:
    """The text of a chunk of the first choice that holds nothing else."""
    delta = choice.delta
    if (
        choice.index
        or choice.finish_reason is not None
        or choice.logprobs is not None
        or delta.tool_calls is not None
        or delta.reasoning is not None
        or delta.reasoning_content is not None
    ):
        return None
    return delta.content or None
