"""A guardian's journal told to people: registers as ranges, what was read back against what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controllers.guardian.journal import Explanation

_SHOWN = 4  # words or differences that are written out


def told(explanation: Explanation) -> str:
    """An explanation as text, each record on a line that can be read."""
    return str(
        replace(explanation, entries=tuple(replace(one, body=_compact(one.body)) for one in explanation.entries))
    )


def _compact(body: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(body)
    words, expected = body.get("words"), body.get("expected")
    if isinstance(words, list) and isinstance(expected, list):
        found |= {"words": _against(words, expected), "expected": None}
    elif isinstance(words, list) and len(words) > _SHOWN:
        found["words"] = f"{_hex(words[:_SHOWN])} and {len(words) - _SHOWN} more"
    elif isinstance(expected, list):
        found["expected"] = f"{sum(one is not None for one in expected)} words"
    if isinstance(body.get("address"), int) and isinstance(words, list) and len(words) > 1:
        found["address"] = f"{body['address']}-{body['address'] + len(words) - 1}"
    return found


def _against(words: Sequence[int], expected: Sequence[int | None]) -> str:
    """What was read back, held against what was expected of each word (None: anything)."""
    if len(words) != len(expected):
        return f"{len(words)} words where {len(expected)} were expected"
    pairs = enumerate(zip(words, expected, strict=True))
    wrong = [(at, word, want) for at, (word, want) in pairs if want is not None and want != word]
    if not wrong:
        return f"{len(words)} word{'s' * (len(words) != 1)} as expected"
    named = ", ".join(f"{word:04x} for {want:04x} at word {at}" for at, word, want in wrong[:_SHOWN])
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{named}{more}, of {len(words)} words"


def _hex(words: Sequence[int]) -> str:
    return "[" + " ".join(f"{word:04x}" for word in words) + "]"
