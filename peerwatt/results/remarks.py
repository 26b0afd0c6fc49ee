"""Remarks of a run as sentences, those of one data set gathered in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FILE = re.compile(r"\S+\.[A-Za-z][A-Za-z0-9]{1,7}")
_OF_DATA = re.compile(r"([a-z0-9]+(?:_[a-z0-9]+)+): (.+)", re.DOTALL)


def readable_remarks(remarks: Sequence[str]) -> list[str]:
    """Remarks with a capital first letter and a full stop; what several say of one data set stands together.

    A file's name keeps its case at the beginning too.
    A remark of a data set begins with the set's name (words joined by underscores) and a colon.
    """
    found: dict[str, list[str]] = {}
    for remark in remarks:
        text = remark.strip()
        if not text:
            continue
        of_data = _OF_DATA.fullmatch(text)
        if of_data is None:
            found.setdefault(text, [])
        else:
            found.setdefault(f"Data set {of_data[1]}", []).append(of_data[2].strip().rstrip("."))
    return [_sentence(f"{head}: {'; '.join(parts)}" if parts else head) for head, parts in found.items()]


def capital(text: str) -> str:
    """``text`` with a capital first letter, unless it begins with the name of a file, which keeps its case."""
    first = (text.split() or [""])[0].strip(".,:;()'\"")
    return text if _FILE.fullmatch(first) else text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return capital(text) + ("" if text[-1] in ".!?" else ".")
