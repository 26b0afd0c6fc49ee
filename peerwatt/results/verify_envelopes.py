"""The check of a run folder that concerns limits at connection points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.results.checking import NothingToCheckError, Problem, dense_parts, needs, where
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
