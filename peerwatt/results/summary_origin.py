"""The block ``origin`` of the summary: where consumed energy came from, what became of certificates, how they match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.accumulate import month_labels
from peerwatt.results.accumulate_origin import HOUR_S, open_match
from peerwatt.results.record import CERTIFICATE_ROWS, ORIGIN_WAYS, RunStatic

Values = Mapping[str, NDArray[Any]]
Block = dict[str, Any]

LOCAL = "local_"
"""Names of what is generated in the district begin so."""

_HELD = CERTIFICATE_ROWS.index("held")


def origin_summary(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    """Key figures of the origin of energy; ``by_origin`` is empty where a run does not follow origins."""
    consumed = values["month_origin"].sum(axis=(0, 1))
    use = int(_use(values).sum())
    known = len(static.origins) > 0
    ways = values["month_origin_ways"].sum(axis=(0, 1)).tolist()
    block: Block = {"consumed_kwh": int(consumed.sum()) / 1000 if known else None}
    local = sum(int(wh) for name, wh in zip(static.origins, consumed, strict=True) if name.startswith(LOCAL))
    block["local_share"] = _share("local_share", local, use if known else 0, undefined)
    for way, wh in zip((*ORIGIN_WAYS, "supplier"), (*ways, int(consumed.sum()) - sum(ways)), strict=True):
        block[f"from_{way}_kwh"] = wh / 1000 if known else None
    block["by_origin"] = {name: _of_origin(values, k, use) for k, name in enumerate(static.origins)}
    block["matching"] = _matching(static, values, undefined)
    return block


def _use(values: Values) -> NDArray[np.int64]:
    """Consumption by month [Wh]."""
    parts = [values[f"month_{name}_wh"].sum(axis=1) for name in ("load", "heat_pump", "ev")]
    return np.asarray(np.sum(parts, axis=0), np.int64)


def _share(name: str, wh: int, total: int, undefined: dict[str, str]) -> float | None:
    if total > 0:
        return wh / total
    undefined[f"origin.{name}"] = "there is no consumption, or origins are not followed"
    return None


def _of_origin(values: Values, k: int, use: int) -> Block:
    rows = values["month_certificates"][:, :, k]
    sums = rows.sum(axis=0)
    sums[_HELD] = rows[-1, _HELD]
    named = {f"{row}_kwh": int(wh) / 1000 for row, wh in zip(CERTIFICATE_ROWS, sums, strict=True)}
    consumed = int(sums[CERTIFICATE_ROWS.index("consumed")])
    return {"share": consumed / use if use else None, **named}


def _matching(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    """Share of consumption that generation of the same slot, hour, month and year could cover, before storage."""
    made, used = values["month_pv_wh"].sum(axis=1), _use(values)
    years = np.array([label[:4] for label in month_labels(static)])
    by_year = [(made[years == year].sum(), used[years == year].sum()) for year in np.unique(years)]
    matched = {
        "slot": int(values["matched_slot"]),
        "hour": int(values["matched_hour"]) + open_match(dict(values)),
        "month": int(np.minimum(made, used).sum()),
        "year": int(sum(min(pair) for pair in by_year)),
    }
    block = {name: _share(f"matching.{name}", wh, int(used.sum()), undefined) for name, wh in matched.items()}
    if static.slot_s > HOUR_S:
        block["hour"] = None
        undefined["origin.matching.hour"] = "slots are longer than an hour"
    return block
