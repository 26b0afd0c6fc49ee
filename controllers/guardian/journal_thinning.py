"""Routine records of an old part counted instead of kept: the same value refreshed, everything as expected.

What differs from the order before, what was not confirmed, what people ordered, alarms, modes and leases stay whole; so
do the first and the last order of each register in the part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from controllers.guardian.journal_lines import Entry, summary

FEWEST = 6
"""So many records in a row are worth a summary."""
_OF_PEOPLE = frozenset({"safety", "operator", "person"})
_NUMBER = re.compile(r"-(\d{1,15})$")


def thin(records: Sequence[tuple[Entry, bytes]]) -> tuple[list[bytes], int]:
    """The lines of a part with its routine records summarised, and how many of them were.

    Parameters
    ----------
    records
        All records of the part, in order, with their lines.
    """
    routine = _routine([entry for entry, _ in records])
    found: list[bytes] = []
    run: list[tuple[Entry, bytes]] = []
    counted = 0
    for entry, line in [*records, (None, b"")]:
        if entry is not None and entry.seq in routine:
            run.append((entry, line))
            continue
        if len(run) >= FEWEST:
            found.append(_summary(run))
            counted += len(run)
        else:
            found += [kept for _, kept in run]
        run = []
        found.append(line)
    return found, counted


def _routine(entries: Sequence[Entry]) -> set[int]:
    """Numbers of the records that may be counted only."""
    answers: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.kind in {"response", "read_back"} and isinstance(asked := entry.body.get("intent"), int):
            answers.setdefault(asked, []).append(entry)
    before: dict[tuple[Any, ...], dict[str, Any] | None] = {}
    last: dict[tuple[Any, ...], int] = {}
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.kind != "intent":
            continue
        key = tuple(entry.body.get(name) for name in ("device", "control", "purpose", "address"))
        told = {name: value for name, value in entry.body.items() if name != "order"}
        confirmed = _confirmed(answers.get(entry.seq, []))
        if confirmed and before.get(key) == told and _is_machine_s(entry.body):
            found[entry.seq] = answers[entry.seq]
        before[key] = told if confirmed else None
        last[key] = entry.seq
    kept = set(last.values())
    return {one.seq for seq, after in found.items() if seq not in kept for one in after} | (found.keys() - kept)


def _confirmed(after: Sequence[Entry]) -> bool:
    """Whether a frame was answered and read back once each, as expected."""
    sound = all(one.body.get("ok") is True and not one.body.get("problem") for one in after)
    return sound and sorted(one.kind for one in after) == ["read_back", "response"]


def _is_machine_s(body: Mapping[str, Any]) -> bool:
    return body.get("level") not in _OF_PEOPLE and _NUMBER.search(str(body.get("order"))) is not None


def _summary(run: Sequence[tuple[Entry, bytes]]) -> bytes:
    groups: dict[tuple[Any, ...], list[int]] = {}
    names = ("device", "control", "purpose", "value", "owner", "level")
    for entry, _ in run:
        if entry.kind == "intent":
            match = _NUMBER.search(str(entry.body["order"]))
            number = 0 if match is None else int(match[1])
            groups.setdefault(tuple(entry.body.get(name) for name in names), []).append(number)
    told = [
        {**dict(zip(names, group, strict=True)), "count": len(orders), "orders": [min(orders), max(orders)]}
        for group, orders in groups.items()
    ]
    body = {
        "count": len(run),
        "until": max(entry.at for entry, _ in run).isoformat(),
        "sha256": hashlib.sha256(b"".join(line for _, line in run)).hexdigest(),
        "routine": told,
    }
    return summary(run[0][0], run[-1][0], body)
