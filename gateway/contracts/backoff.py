"""How long to wait before something that failed is tried again."""

_LARGEST_EXPONENT = 30


def pause_seconds(first_seconds: float, failures: int, longest_seconds: float) -> float:
    """The pause after so many failures: the first one, then twice as long each time, up to the longest.

    A first pause above the longest stands.
    """
    doubled = first_seconds * 2.0 ** min(failures - 1, _LARGEST_EXPONENT)
    return min(doubled, max(first_seconds, longest_seconds))
