"""One root secret, and keys derived from it for one purpose each."""

import hashlib
import hmac


class Secrets:
    """Derives independent keys (HMAC-SHA256 of the purpose under the root secret)."""

    def __init__(self, root: str) -> None:
        self._root = root.encode()
        self._derived: dict[str, bytes] = {}

    def derive(self, purpose: str) -> bytes:
        """32 bytes that nobody without the root secret can find, other for every purpose."""
        key = self._derived.get(purpose)
        if key is None:  # purposes are words of the program: there are few
            key = self._derived[purpose] = hmac.digest(self._root, purpose.encode(), hashlib.sha256)
        return key

    def keyed_hash(self, purpose: str, text: str) -> str:
        """24 hex digits that stand for `text` and cannot be turned back without the root secret."""
        return hmac.digest(self.derive(purpose), text.encode(), hashlib.sha256).hex()[:24]
