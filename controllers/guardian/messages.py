"""What travels over the guardian's sockets: one JSON object a line, requests with a number, answers with the same one.

docs/guardian.md lists every message. Nothing in here does input or output.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import Any

from core.quality import Quality, Reading

LINE_BYTES = 1 << 20
"""Longest line that is taken."""


class Level(enum.IntEnum):
    """Who wins: the one ladder of devices and markets. Targets come from the highest live lease; limits intersect."""

    DEFAULT = 0
    OPTIMISER = 1
    MARKET = 2
    FLEXIBILITY = 3
    PERSON = 4
    OPERATOR = 5
    SAFETY = 6

    @classmethod
    def named(cls, name: object) -> Level:
        """The level of this name (``market``); ValueError if there is none or it is not for asking."""
        if isinstance(name, str) and name in _ASKABLE:
            return cls[name.upper()]
        if name == "safety":
            raise ValueError(
                "the level 'safety' is the guardian's own and the stop's; ask as 'operator', or stop the site"
            )
        raise ValueError(f"there is no level {name!r}; there are {', '.join(sorted(_ASKABLE))}")


_ASKABLE = frozenset(level.name.lower() for level in Level if level not in {Level.DEFAULT, Level.SAFETY})


class Refused(enum.StrEnum):
    """Why a request is not granted; ``message`` of the answer says it in words."""

    HELD = "held"  # somebody on the same step of the ladder or above holds it; ``holder`` says who
    OUT_OF_RANGE = "out-of-range"  # not finite, or beyond nameplate, settings or limit
    UNKNOWN = "unknown"  # no such device, control, lease or request
    NOT_ARMED = "not-armed"  # the device is in a mode that does not write
    NOT_COMMISSIONED = "not-commissioned"  # no valid record: cannot be armed
    KEY_REUSED = "key-reused"  # the same idempotency key with another content
    BAD_REQUEST = "bad-request"  # the request itself is malformed
    LOCKED_OUT = "locked-out"  # latched: a named person has to clear it
    UNAVAILABLE = "unavailable"  # the device has not been seen, or the guardian is ending


class BadLine(ValueError):  # noqa: N818 - a line, not an error of ours
    """A line that is no request."""


def to_line(message: Mapping[str, Any]) -> bytes:
    """One message as a line; ValueError if it holds NaN or an infinity."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _no_constant(text: str) -> float:
    raise BadLine(f"{text} is no number")


def from_line(line: bytes) -> dict[str, Any]:
    """The message of a line.

    Raises
    ------
    BadLine
        If it is no JSON object, or holds NaN or an infinity.
    """
    try:
        message = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadLine(str(error) or type(error).__name__) from error
    if not isinstance(message, dict):
        raise BadLine("a request is a JSON object")
    return message


def number(value: object, name: str) -> float:
    """A finite number out of a message; ValueError otherwise (text, true and false are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} has to be a number, not {type(value).__name__}")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float):
        raise ValueError(f"{name} has to be finite")
    return as_float


def text(value: object, name: str, longest: int = 200) -> str:
    """A text out of a message, printable and not empty; ValueError otherwise."""
    if not isinstance(value, str) or not value or len(value) > longest or not value.isprintable():
        raise ValueError(f"{name} has to be 1 to {longest} printable characters")
    return value


def reading_out(reading: Reading, now_s: float) -> dict[str, Any]:
    """A reading for another process: ages instead of moments, since it has a clock of its own."""
    return {
        "value": reading.value,
        "quality": str(reading.quality),
        "age_s": round(max(now_s - reading.source_s, 0.0), 4),
        "received_age_s": round(max(now_s - reading.received_s, 0.0), 4),
        "sequence": reading.sequence,
        "reason": reading.reason,
    }


def reading_in(message: Mapping[str, Any], now_s: float) -> Reading:
    """A reading from another process, dated on this one's monotonic clock; ValueError or KeyError if malformed."""
    return Reading(
        value=message["value"],
        quality=Quality(message["quality"]),
        source_s=now_s - number(message["age_s"], "age_s"),
        received_s=now_s - number(message["received_age_s"], "received_age_s"),
        sequence=int(message["sequence"]),
        reason=str(message["reason"]),
    )
