"""Canonical bytes and their SHA-256: how runs, files and scenarios are named and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no white space and no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chain_digest(previous: bytes, *parts: bytes) -> bytes:
    """The link of a hash chain: SHA-256 over the digest before (32 bytes) and the parts, one after the other.

    Whoever chains records fixes the parts' lengths or writes them into a part: the boundaries are not hashed.
    """
    running = hashlib.sha256(previous)
    for part in parts:
        running.update(part)
    return running.digest()
