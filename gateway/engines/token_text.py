"""What the pieces in a tokenizer's vocabulary stand for. LMDeploy shows log-probabilities under the pieces' own names.

`Ġhello` (byte-level) and `▁hello` (SentencePiece) are both ` hello`; where a piece leaves open which kind it is of, an
earlier one may have told.
"""

import re

SPACE_OF_BYTES, LINE_OF_BYTES = "Ġ", "Ċ"
SPACE_OF_PIECES = "▁"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The letter that byte-level vocabularies write for every byte: its own where it can be printed, else a far one."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()


class Vocabulary:
    """A vocabulary of which only some pieces have been seen."""

    __slots__ = ("_byte_level",)

    def __init__(self) -> None:
        self._byte_level: bool | None = None

    def look_at(self, piece: str) -> None:
        """See whether a piece tells the kind of the vocabulary."""
        if self._byte_level is None:
            if SPACE_OF_PIECES in piece or BYTE_PIECE.fullmatch(piece):
                self._byte_level = False
            elif SPACE_OF_BYTES in piece or LINE_OF_BYTES in piece:
                self._byte_level = True

    def bytes_of(self, piece: str) -> bytes:
        """The bytes that a piece adds to the text; they may be a part of a character."""
        if self._byte_level is not False and all(letter in BYTE_OF for letter in piece):
            decoded = bytes(BYTE_OF[letter] for letter in piece)
            if self._byte_level or _is_text(decoded):
                return decoded
        if (byte := BYTE_PIECE.fullmatch(piece)) is not None:
            return bytes([int(byte[1], 16)])
        return piece.replace(SPACE_OF_PIECES, " ").encode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
