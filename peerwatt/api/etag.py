"""Entity tags: what a client has seen, so that nobody overwrites what another has changed meanwhile (RFC 9110)."""

from __future__ import annotations

import hashlib
import re

import msgspec

from peerwatt.api.problems import refuse

_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


def etag(*parts: object) -> str:
    """A strong tag of anything JSON-able: ``etag("network", version)``."""
    return f'"{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]}"'


def not_modified(if_none_match: str | None, current: str) -> bool:
    """Whether a GET can be answered 304: the client has the current version."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(f'"{tag}"' == current for _, tag in _tags(if_none_match))


def check_if_match(if_match: str | None, current: str | None) -> None:
    """Let a change pass if the client has seen the current version; ``current`` None: there is nothing yet.

    Raises
    ------
    Refusal
        428 without the header, 400 if it cannot be read, 412 if it names another version.
    """
    if if_match is None:
        raise refuse("version_needed", "read it first, and send its ETag back in If-Match")
    if if_match.strip() == "*":
        if current is None:
            raise refuse("stale", "there is nothing to change")
        return
    # A weak tag says "much the same", which is not enough to overwrite something.
    if current is None or not any(not weak and f'"{tag}"' == current for weak, tag in _tags(if_match)):
        raise refuse("stale", "read it again", headers=() if current is None else [("ETag", current)])


def _tags(header: str) -> list[tuple[bool, str]]:
    tags, place = [], 0
    while place < len(header):
        found = _TAG.match(header, place)
        if found is None:
            raise refuse("malformed_request", "a list of entity tags in double quotes is expected")
        tags.append((found[1] is not None, found[2]))
        place = found.end()
    return tags
