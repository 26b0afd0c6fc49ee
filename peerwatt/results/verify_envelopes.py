"""The check of a run folder that concerns limits at connection points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.results.checking import NothingToCheckError, Problem, dense_parts, needs, where
from peerwatt.results.record import ISLAND_COLUMNS
from peerwatt.results.run import Run

_DRAWN = ("load_wh", "heat_pump_wh", "ev_wh", "charge_wh")
_FED = ("pv_wh", "discharge_wh")


def check_envelopes(run: Run) -> Iterator[Problem]:
    """What every limited building drew and fed in is within its limits, or told as excess; reasons do not overstate."""
    static = run.static
    if not static.limited:
        raise NothingToCheckError
    needs(run, "envelopes", "buildings")
    names = [f"{way}_{what}_wh" for way in ("import", "export") for what in ("limit", "excess")]
    names += ["envelope_wh", "own_limit_wh"]
    told = dense_parts(run, "envelopes", names, len(static.limited))
    metered = dense_parts(run, "buildings", [*_DRAWN, *_FED, "curtailed_wh"], len(static.buildings))
    chosen = list(static.limited)
    for (name, slots, limits), (_, _, flows) in zip(told, metered, strict=True):
        drawn, fed = (sum(flows[key][:, chosen] for key in keys) for keys in (_DRAWN, _FED))
        for way, net in (("import", drawn - fed), ("export", fed - drawn)):
            limit = np.nan_to_num(limits[f"{way}_limit_wh"].astype(np.float64), nan=np.inf)
            gap = np.abs(np.maximum(net - limit, 0.0) - limits[f"{way}_excess_wh"])
            text = f"{way} beyond the limit and what is told of it differ by {{}} Wh"
            yield from where("envelopes", name, slots, gap.any(axis=1), text, gap.max(axis=1))
        more = np.maximum(limits["envelope_wh"] + limits["own_limit_wh"] - flows["curtailed_wh"][:, chosen], 0)
        text = "{} Wh more are said to be curtailed for limits than were curtailed"
        yield from where("envelopes", name, slots, more.any(axis=1), text, more.max(axis=1))


def check_islands(run: Run) -> Iterator[Problem]:
    """What is said to be the island's doing is no more than what was curtailed, or drawn and fed in beyond limits."""
    static = run.static
    if not static.islands:
        raise NothingToCheckError
    needs(run, "islands", "envelopes", "buildings")
    n, chosen = len(static.limited), list(static.limited)
    told = dense_parts(run, "islands", list(ISLAND_COLUMNS), n)
    limits = dense_parts(run, "envelopes", ["envelope_wh", "own_limit_wh", "import_excess_wh", "export_excess_wh"], n)
    metered = dense_parts(run, "buildings", ["curtailed_wh"], len(static.buildings))
    for (name, slots, mine), (_, _, beside), (_, _, flows) in zip(told, limits, metered, strict=True):
        curtailed = (
            mine["island_wh"] + beside["envelope_wh"] + beside["own_limit_wh"] - flows["curtailed_wh"][:, chosen]
        )
        beyond = [mine[f"{way}_island_wh"] - beside[f"{way}_excess_wh"] for way in ("import", "export")]
        for more, text in ((curtailed, "curtailed"), (np.maximum(*beyond), "beyond limits")):
            over = np.maximum(more, 0)
            words = f"{{}} Wh {text} are told twice, or never were"
            yield from where("islands", name, slots, over.any(axis=1), words, over.max(axis=1))
