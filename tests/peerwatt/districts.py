"""Small districts as mappings, and what tests of whole runs ask of a run folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import peerwatt

TABLES = (
    "slots",
    "buildings",
    "trades",
    "buses",
    "branches",
    "ledger",
    "violations",
    "certificates",
    "origins",
    "bills",
)

DATASET = "simbench_semiurb4_2016"
PROFILES: dict[str, Any] = {
    "family": {"dataset": DATASET, "column": "H0-A_pload"},
    "couple": {"dataset": DATASET, "column": "H0-B_pload"},
    "shift": {"dataset": DATASET, "column": "H0-G_pload"},
    "shift-q": {"dataset": DATASET, "column": "H0-G_qload"},
    "senior": {"dataset": DATASET, "column": "H0-L_pload"},
    "shop": {"dataset": DATASET, "column": "G1-A_pload"},
    "heat": {"dataset": DATASET, "column": "Air_Alternative_2_pload"},
    "roof": {"dataset": DATASET, "column": "PV5"},
}

BATTERY = {
    "kind": "battery",
    "capacity_kwh": 7.3,
    "charge_kw": 3.1,
    "discharge_kw": 2.7,
    "efficiency_charge": 0.94,
    "efficiency_discharge": 0.93,
    "self_discharge_per_day": 0.02,
    "initial_soc": 0.2,
    "min_soc": 0.05,
}


def load(profile: str = "family", scale: float = 4.0) -> dict[str, Any]:
    return {"kind": "load", "profile": profile, "scale": scale}


def pv(peak_kw: float = 6.0) -> dict[str, Any]:
    return {"kind": "pv", "profile": "roof", "peak_kw": peak_kw}


def home(name: str, *assets: Mapping[str, Any], **properties: Any) -> dict[str, Any]:
    return {"id": name, "assets": [dict(a) for a in assets], **properties}


def flat(retail: float = 0.32, feed_in: float = 0.08, **more: Any) -> dict[str, Any]:
    return {"terms": [{"retail": {"flat_per_kwh": retail}, "feed_in": {"flat_per_kwh": feed_in}, **more}]}


def district(*homes: Mapping[str, Any], days: int = 1, start: str = "2016-05-25", **more: Any) -> dict[str, Any]:
    """A district without a network on the shipped profiles; ``more`` replaces whole keys."""
    scenario: dict[str, Any] = {
        "name": "district",
        "power_flow": "none",
        "time": {"start": start, "days": days, "slot_minutes": 15, "zone": "Europe/Berlin"},
        "seed": 7,
        "profiles": PROFILES,
        "contracts": {"default": flat()},
        "buildings": list(homes),
        "outputs": {"report": False, "statements": False},
    }
    scenario.update(more)
    return copy.deepcopy(scenario)


def everything(days: int = 2, *, one_contract: bool = False) -> dict[str, Any]:
    """Twelve connection points with every kind of asset, contract, meter and bidder, on a network with losses.

    Self-discharge, listed and drawn cars, heat pumps, a community battery, an export limit, members that come and go,
    meters of an hour spread flat and by profile, time-of-use prices, network charges by level, levies, tax, losses.
    ``one_contract`` gives all of them the time-of-use contract, for rules that need one price for all.
    """
    day = "2016-05-25"
    stay = {"arrival": f"{day}T16:50", "departure": f"{day}T22:10", "energy_kwh": 9.3}
    homes = [
        home("h01", load(), pv(9), BATTERY, bus="Bus R11"),
        home("h02", load("couple"), pv(6), bus="Bus R15", export_limit_kw=1.7),
        home("h03", load("family", 3), {"kind": "ev", "charge_kw": 3.7, "sessions": [stay]}, bus="Bus R16"),
        home("h04", {**load("shift", 6), "reactive_profile": "shift-q", "reactive_scale": 2.0}, bus="Bus R17"),
        home("h05", load("senior", 6), bus="Bus R18", metering_minutes=60),
        home("h06", load("shop", 5), pv(5), bus="Bus R10", metering_minutes=60, metering_spread="profile",
             spread_profile="shop", power_factor=0.93),
        home("h07", load("couple", 5), {"kind": "heat_pump", "profile": "heat", "scale": 2.5}, bus="Bus R9"),
        home("h08", load(), {"kind": "ev", "charge_kw": 11.0, "drawn": {"share_of_days": 1.0}}, bus="Bus R8"),
        home("h09", load(), pv(4), bus="Bus R7", membership={"joins": f"{day}T11:07"},
             strategy={"kind": "fixed_margin", "parameters": {"margin": 0.1}}),
        home("h10", load("shift"), pv(8), BATTERY, {**BATTERY, "capacity_kwh": 2.0}, bus="Bus R6",
             membership={"leaves": f"{day}T15:30"}),
        home("h11", load("senior"), pv(3), bus="Bus R5", strategy={"kind": "zi_c"}, contract="tou"),
        home("pool-battery", {**BATTERY, "capacity_kwh": 11}, bus="Bus R3", contract="tou"),
    ]  # fmt: skip
    if one_contract:
        homes = [{**h, "contract": "tou"} for h in homes]
    charges = {
        "network": {
            "full_per_kwh": 0.0831, "local_per_kwh": 0.0417, "export_per_kwh": 0.0013, "local_export_per_kwh": 0.0007,
            "fixed_per_day": 0.13, "demand_per_kw_month": 2.05,
        },
        "levies_per_kwh": {"a": 0.0205, "b": 0.00391},
        "vat_percent": 19,
    }  # fmt: skip
    bands = [{"start": "22:00", "end": "06:00", "price_per_kwh": 0.17}, {"start": "17:00", "end": "21:00",
             "price_per_kwh": 0.2617}]  # fmt: skip
    tou = {"terms": [{"retail": {"default_per_kwh": 0.2113, "bands": bands}, "feed_in": {"flat_per_kwh": 0.0811},
                      **charges}]}  # fmt: skip
    return district(
        *homes,
        days=days,
        network={"source": "cigre:lv"},
        power_flow="batch",
        contracts={"default": flat(0.2003, 0.0799, **charges), "tou": tou},
        settlement={"loss_price": {"flat_per_kwh": 0.1003}},
        market={"stages": [{"rule": "uniform_price", "parameters": {"k": "1/3", "tie_break": "prorata"}}]},
        carbon={"grid": {"constant": 380, "unit": "g/kWh"}},
    )


def with_rule(scenario: Mapping[str, Any], rule: str, /, **parameters: Any) -> dict[str, Any]:
    stage = {"rule": rule, "parameters": parameters}
    return {**copy.deepcopy(dict(scenario)), "market": {**scenario.get("market", {}), "stages": [stage]}}


def bytes_of(run: peerwatt.Run, table: str) -> list[bytes]:
    return [part.read_bytes() for part in sorted((run.folder / f"{table}.parquet").glob("*"))]


def assert_same_tables(a: peerwatt.Run, b: peerwatt.Run, *, but: tuple[str, ...] = ()) -> None:
    assert a.tables == b.tables
    for table in TABLES:
        if table not in but:
            assert bytes_of(a, table) == bytes_of(b, table), table


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file of a folder by its name, without what a manifest says of the machine."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def plane(run: peerwatt.Run, column: str, table: str = "buildings") -> np.ndarray:
    """A column of a dense table as (slots, buildings or accounts)."""
    values = run.table(table, [column])[column].to_numpy()
    return values.reshape(run.static.n_slots, -1)


def column_of(run: peerwatt.Run, building: str) -> int:
    return [b.id for b in run.static.buildings].index(building)


def assert_verified(run: peerwatt.Run) -> None:
    report = peerwatt.verify_run(run.folder)
    assert report.ok, str(report)


def battery_law_breach_wh(run: peerwatt.Run) -> float:
    """Largest distance of the stored energy from the law E' = E + charge * eta - discharge / eta - leak, over any
    stretch from the start, for districts in which every battery is like `BATTERY` [Wh]."""
    worst = 0.0
    leak = 1.0 - (1.0 - BATTERY["self_discharge_per_day"]) ** (run.static.slot_s / 86_400)  # type: ignore[operator]
    soc, charge, discharge = (plane(run, c).astype(float) for c in ("soc_wh", "charge_wh", "discharge_wh"))
    for i, building in enumerate(run.static.buildings):
        if not building.battery_kwh:
            continue
        gained = charge[:, i] * BATTERY["efficiency_charge"] - discharge[:, i] / BATTERY["efficiency_discharge"]
        expected = soc[0, i] + np.concatenate(([0.0], np.cumsum(gained - leak * soc[:, i])))[:-1]
        worst = max(worst, float(np.abs(expected - soc[:, i]).max()))
    return worst
