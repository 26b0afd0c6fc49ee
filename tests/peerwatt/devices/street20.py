"""A street of twenty-two homes on a network, five of which are devices in a paced run."""

from __future__ import annotations

from typing import Any

from tests.peerwatt.districts import BATTERY, district, home, load, pv

BUSES = tuple(f"Bus R{n}" for n in (11, 15, 16, 17, 18))
PROFILES = ("family", "couple", "shift", "senior")

LIMITS_KW = {"h08": 2.5, "h10": 1.0}
"""Of what may be fed in: their PV has something to hold back."""

EMULATED: dict[str, Any] = {
    "h02": "emulated",  # battery and PV
    "h05": {"kind": "emulated", "covers": ["battery"]},
    "h08": {"kind": "emulated", "covers": ["pv"]},
    "h14": {"kind": "emulated", "scale": 1.0},
    "h20": "emulated",
}
"""Devices behind Modbus: four batteries and four PV plants."""


def street(plants: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Twenty-two homes; every second has PV, every third a battery."""
    chosen = EMULATED if plants is None else plants
    homes = []
    for k in range(22):
        name = f"h{k:02d}"
        assets = [load(PROFILES[k % 4], 2.0 + k % 3)]
        if k % 2 == 0:
            assets.append(pv(4.0 + k % 5))
        if k % 3 == 2:
            assets.append(BATTERY | {"initial_soc": 0.1 + 0.02 * k})
        properties: dict[str, Any] = {"bus": BUSES[k % 5]}
        if name in chosen:
            properties["plant"] = chosen[name]
        if name in LIMITS_KW:
            properties["export_limit_kw"] = LIMITS_KW[name]
        homes.append(home(name, *assets, **properties))
    scenario: dict[str, Any] = {
        "network": {"source": "cigre:lv"},
        "power_flow": "batch",
        "time": {"start": "2016-05-25", "days": 1, "slot_minutes": 30, "zone": "Europe/Berlin"},
    }
    return district(*homes, **(scenario | more))
