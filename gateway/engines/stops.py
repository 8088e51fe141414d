"""Ends a text at the first of several strings, while it comes in pieces."""


class StopFinder:
    """One text. A piece that may be the beginning of a stop is held back until that is known."""

    __slots__ = ("_held", "_stops")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""

    def take(self, piece: str, *, last: bool) -> tuple[str, bool]:
        """What may be shown now, and whether a stop was found; nothing of the text after it is shown."""
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self._held = ""
            return text[: min(places)], True
        shown = len(text) if last else len(text) - self._begun(text)
        self._held = text[shown:]
        return text[:shown], False

    def _begun(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop."""
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
