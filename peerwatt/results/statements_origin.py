"""Two tables of a statement: by which way a building's electricity came, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import RunStatic

Table = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...], ...], tuple[str, ...]]
"""Heading, sentence, header, rows, total."""

_WAYS = ("Your own generation, at once", "Your own battery", "Neighbours", "Your supplier")
_WORDS = {
    "local_solar": "Solar from the district",
    "grid": "Grid (no mix stated)",
    "unknown": "Unknown",
}


def origin_words(name: str) -> str:
    """An origin as people read it."""
    return _WORDS.get(name, name.replace("_", " ").capitalize())


def origin_tables(static: RunStatic, values: Mapping[str, NDArray[Any]], i: int) -> list[Table]:
    """The tables of building ``i``; none where origins are not followed or nothing was used."""
    if not static.origins:
        return []
    by_origin = values["month_origin"][:, i].sum(axis=0)
    total = int(by_origin.sum())
    if not total:
        return []
    ways = values["month_origin_ways"][:, i].sum(axis=0)
    by_way = [*ways.tolist(), total - int(ways.sum())]
    order = np.argsort(-by_origin, kind="stable")
    return [
        _table(
            "Where your electricity came from",
            "What you used, by the way it came. A car, a heat pump and the household count; charging a battery does "
            "not, but what it gave back does.",
            [(name, wh) for name, wh in zip(_WAYS, by_way, strict=True) if wh],
            total,
        ),
        _table(
            "How it was made",
            "Certificates of origin travel with the energy through batteries and from neighbour to neighbour, each "
            "counted once; the rest is the mix your supplier states.",
            [(origin_words(static.origins[k]), int(by_origin[k])) for k in order if by_origin[k]],
            total,
        ),
    ]


def _table(heading: str, sentence: str, rows: list[tuple[str, int]], total: int) -> Table:
    cells = tuple((name, f"{wh / 1000:,.1f}", f"{wh / total:.1%}") for name, wh in rows)
    return heading, sentence, ("", "Energy [kWh]", "Share"), cells, ("Sum", f"{total / 1000:,.1f}", "100.0%")
