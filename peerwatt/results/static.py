"""``static.json``: what never changes in a run, as JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from core import RunError, SlotGrid
from peerwatt.results.record import BranchInfo, BuildingInfo, BusInfo, RunStatic


def static_to_json(static: RunStatic) -> bytes:
    """``static`` as indented JSON with sorted keys; unknown bus positions (NaN) become null."""
    document = asdict(static)
    for bus in document["buses"]:
        for axis in ("x", "y"):
            if not math.isfinite(bus[axis]):
                bus[axis] = None
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain)
    return (text + "\n").encode()


def static_from_json(data: bytes) -> RunStatic:
    """The ``RunStatic`` that ``static_to_json`` wrote.

    Raises
    ------
    RunError
        If the text is no such document.
    """
    try:
        document = json.loads(data)
        buses = [{**bus, "x": _coordinate(bus["x"]), "y": _coordinate(bus["y"])} for bus in document["buses"]]
        known = {field.name for field in fields(RunStatic)}
        rest = {key: value for key, value in document.items() if key in known}
        rest["buildings"] = tuple(BuildingInfo(**building) for building in document["buildings"])
        rest["buses"] = tuple(BusInfo(**bus) for bus in buses)
        rest["branches"] = tuple(BranchInfo(**branch) for branch in document["branches"])
        rest["notices"] = tuple(document["notices"])
        rest["remarks"] = tuple(document["remarks"])
        return RunStatic(**rest)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"static.json cannot be read: {error}", remedy="run the scenario again") from error


def slot_grid(static: RunStatic) -> SlotGrid:
    """The run's slots as a ``SlotGrid``."""
    start = datetime.fromisoformat(static.start_utc)
    return SlotGrid(start, static.slot_s, static.n_slots)


def _coordinate(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays as plain Python; anything else by its text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
