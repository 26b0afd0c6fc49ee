"""Cursors: where the next page of a list starts, in a form that clients can only hand back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from peerwatt.api.problems import refuse

Position = int | str | None
_SEAL_BYTES = 16
_MAX_CHARS = 400


class Pager:
    """Makes and reads cursors; ``secret`` is any secret of the service that outlives a restart."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"peerwatt cursor 1", "sha256")

    def cursor(self, what: str, *position: Position, query: Mapping[str, Position] | None = None) -> str:
        """A cursor of the list ``what`` at a position; ``query`` are the filters, which the next page must repeat."""
        body = msgspec.json.encode(position)
        cursor = base64.urlsafe_b64encode(self._seal(what, query, body) + body).rstrip(b"=").decode()
        if len(cursor) > _MAX_CHARS:
            raise ValueError(f"a position in {what} is too long for a cursor")
        return cursor

    def position(
        self, what: str, cursor: str | None, *kinds: type, query: Mapping[str, Position] | None = None
    ) -> tuple[Position, ...] | None:
        """The position in a cursor; None without a cursor. ``kinds`` are the types of its parts.

        Raises
        ------
        Refusal
            400 ``bad_cursor`` if it was not made by `cursor` for this list and these filters.
        """
        if cursor is None:
            return None
        wrong = refuse("bad_cursor", "take it from next_cursor of the page before, with the same filters")
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise wrong from None
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(what, query, body)):
            raise wrong
        position = tuple(msgspec.json.decode(body, type=list[Position]))
        if tuple(type(part) for part in position) != kinds:
            raise wrong
        return position

    def _seal(self, what: str, query: Mapping[str, Position] | None, body: bytes) -> bytes:
        about = hashlib.sha256(msgspec.json.encode([what, sorted((query or {}).items())])).digest()
        return hmac.digest(self._secret, about + body, "sha256")[:_SEAL_BYTES]
