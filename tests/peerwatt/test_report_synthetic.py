"""A synthetic run for the report's tests: plausible homes on a small tree network, in balance to the watt-hour.

No market engine and no power flow: local energy is the smaller of surplus and demand spread in proportion, voltages are
linear in power. Good enough to look like a district and to have known sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import SlotGrid
from peerwatt.results import (
    BranchInfo,
    BuildingInfo,
    BusInfo,
    Run,
    RunStatic,
    RunWriter,
    TradeColumns,
    WindowRecord,
)
from peerwatt.results.record import CERTIFICATE_ROWS, LEDGER_KINDS

RETAIL_U, FEED_IN_U = 320_000, 80_000
NETWORK_U, LOCAL_NETWORK_U, LEVY_U = 60_000, 30_000, 20_000
TABLES = ("slots", "buildings", "trades", "buses", "branches", "ledger", "violations", "certificates")


@dataclass(frozen=True)
class Recipe:
    """What kind of run to make."""

    rule: str = "uniform_price"
    n_homes: int = 60
    n_buses: int = 44
    start: str = "2016-01-01T00:00:00+01:00"
    slot_s: int = 900
    n_slots: int = 96 * 366
    zone: str = "Europe/Berlin"
    currency: str = "EUR"
    pv_share: float = 0.4
    battery_share: float = 0.2
    ev_share: float = 0.25
    network: bool = True
    positions: bool = True
    carbon: bool = True
    pairs: bool = True
    shared: float = 1.0  # part of the possible local energy that the rule brings about
    price_shift_u: int = 0
    seed: int = 7
    kinds: bool = True
    stress: float = 1.0  # factor on the voltage drop along lines
    title: str = "A synthetic <district> & its homes"
    remarks: tuple[str, ...] = ("Profiles of the demonstration are synthetic.",)
    parameters: dict[str, object] = field(default_factory=lambda: {"k": "1/2"})


def make_static(r: Recipe) -> RunStatic:
    """The unchanging part: homes spread over a tree of buses behind one transformer."""
    draw = np.random.default_rng(r.seed)
    homes = []
    n_bus = r.n_buses if r.network else 0
    for i in range(r.n_homes):
        pv = i < round(r.n_homes * r.pv_share)
        battery = pv and i < round(r.n_homes * r.battery_share)
        tenure = ("owner", "tenant", "social")[i % 3] if r.kinds else None
        income = ("low", "middle", "middle", "high")[i % 4] if r.kinds else None
        homes.append(
            BuildingInfo(
                id=f"h{i + 1:02d}", bus=2 + i % (n_bus - 2) if n_bus else -1, contract="default", tenure=tenure,
                income_band=income, roof=pv if r.kinds else None, vulnerable=i % 9 == 0 if r.kinds else None,
                pv_kw=4.0 + i % 5 if pv else 0.0, battery_kwh=8.0 if battery else 0.0,
                ev=(i * 7) % r.n_homes < round(r.n_homes * r.ev_share), heat_pump=i % 8 == 3, community=False,
            )
        )  # fmt: skip
    buses, branches = [], []
    for n in range(n_bus):
        parent = _parent(n)
        angle = 2.4 * n
        x0, y0 = (buses[parent].x, buses[parent].y) if parent >= 0 else (0.0, 0.0)
        step = 0.0 if n < 2 else 30.0 + 8.0 * draw.random()
        turn = (0.4 * math.sin(angle) + (n - 2) % 4 * math.pi / 2) if n >= 2 else 0.0
        x, y = (x0 + step * math.cos(turn), y0 + step * math.sin(turn)) if r.positions else (math.nan, math.nan)
        name = "MV grid" if n == 0 else ("LV busbar" if n == 1 else f"LV bus {n}")
        buses.append(BusInfo(str(n), name, 20.0 if n == 0 else 0.4, x, y, 0.9, 1.1))
        if n:
            kind = "transformer" if n == 1 else "line"
            branches.append(BranchInfo(f"{kind}-{n}", f"{kind.title()} {n}", kind, parent, n, 1.0))
    meter_based = r.rule in ("mid_market_rate", "sharing_keys", "bill_sharing", "supply_demand_ratio")
    return RunStatic(
        run_id=f"synthetic-{r.rule}-{r.seed}", name="synthetic", title=r.title,
        seed=r.seed, currency=r.currency, zone=r.zone,
        start_utc=datetime.fromisoformat(r.start).astimezone(UTC).isoformat(),
        slot_s=r.slot_s, n_slots=r.n_slots, rule=r.rule, rule_parameters=dict(r.parameters), meter_based=meter_based,
        pairs=r.pairs and not meter_based and r.rule != "no_market", phases=1, buildings=tuple(homes),
        buses=tuple(buses), branches=tuple(branches),
        notices=("Synthetic profiles, made for tests. No rights reserved.",), remarks=r.remarks,
        options={"billing_period": "month", "origins": ["local_solar", "grid"]},
    )  # fmt: skip


def _parent(n: int) -> int:
    """Four feeders behind the busbar (bus 1)."""
    return n - 1 if n < 2 else (1 if n < 6 else n - 4)


def records(r: Recipe, static: RunStatic, window: int = 2688) -> Iterator[WindowRecord]:
    """The run, cut into windows."""
    soc = np.array([b.battery_kwh * 500 for b in static.buildings]).astype(np.int64)
    for first in range(0, r.n_slots, window):
        n = min(window, r.n_slots - first)
        record, soc = _window(r, static, first, n, soc)
        yield record


def _profiles(r: Recipe, static: RunStatic, first: int, n: int) -> dict[str, Any]:
    grid = SlotGrid(datetime.fromisoformat(static.start_utc), r.slot_s, r.n_slots).window(first, n)
    local = grid.local_time(r.zone)
    hour = local.minute / 60.0
    day = (local.date - local.date.astype("datetime64[Y]")).astype(int)
    season = np.cos(2 * np.pi * (day - 15) / 365.25)  # 1 in January
    rng = np.random.default_rng([r.seed, first])
    b = len(static.buildings)
    size = 0.6 + 0.8 * np.random.default_rng(r.seed).random(b)
    shape = 0.25 + 0.35 * np.exp(-((hour - 7.5) ** 2) / 3) + 0.7 * np.exp(-((hour - 19) ** 2) / 6)
    load_kw = shape[:, None] * (1 + 0.15 * season[:, None]) * size * (0.6 + 0.8 * rng.random((n, b)))
    pump = np.array([x.heat_pump for x in static.buildings])
    pump_kw = np.clip(0.2 + 1.4 * season, 0, None)[:, None] * pump * (0.7 + 0.6 * rng.random((n, b)))
    ev = np.array([x.ev for x in static.buildings])
    ev_kw = (((hour >= 18) & (hour < 20))[:, None] & ev & (local.weekday < 5)[:, None]) * 3.7
    length = 12 - 4.2 * season
    sun = np.clip(np.sin(np.pi * (hour - 13 + length / 2) / length), 0, None) * (np.abs(hour - 13) < length / 2)
    cloud = 0.25 + 0.75 * np.random.default_rng([r.seed, 1]).random(400)[day]
    peak = np.array([x.pv_kw for x in static.buildings])
    pv_kw = (sun * cloud * (0.75 - 0.2 * season))[:, None] * peak
    carbon = 0.30 + 0.12 * season + 0.05 * np.cos(2 * np.pi * (hour - 20) / 24)
    wh = 1000 * r.slot_s / 3600
    return {
        "load": np.rint(load_kw * wh).astype(np.int64), "pump": np.rint(pump_kw * wh).astype(np.int64),
        "ev": np.rint(ev_kw * wh).astype(np.int64), "pv": np.rint(pv_kw * wh).astype(np.int64), "carbon": carbon,
        "rng": rng,
    }  # fmt: skip


def _batteries(static: RunStatic, p: dict[str, Any], soc: np.ndarray) -> tuple[np.ndarray, ...]:
    """Greedy batteries without losses, limited to 3 kW; stored energy at each slot's start."""
    size = np.array([x.battery_kwh * 1000 for x in static.buildings]).astype(np.int64)
    limit = int(3000 * static.slot_s / 3600)
    surplus = p["pv"] - p["load"] - p["pump"] - p["ev"]
    charge, discharge, stored = (np.zeros_like(surplus) for _ in range(3))
    for t in range(len(surplus)):
        stored[t] = soc
        charge[t] = np.clip(np.minimum(surplus[t], size - soc), 0, limit)
        discharge[t] = np.clip(np.minimum(-surplus[t], soc), 0, limit)
        soc = soc + charge[t] - discharge[t]
    return charge, discharge, stored, soc


def _spread(total: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``total`` per slot spread in proportion to whole ``weights``, never above them, summing exactly."""
    share = np.cumsum(weights, axis=1) * total[:, None] // np.maximum(weights.sum(axis=1), 1)[:, None]
    return np.diff(share, axis=1, prepend=0)


def _window(r: Recipe, static: RunStatic, first: int, n: int, soc: np.ndarray) -> tuple[WindowRecord, np.ndarray]:
    p = _profiles(r, static, first, n)
    charge, discharge, stored, soc = _batteries(static, p, soc)
    net = p["load"] + p["pump"] + p["ev"] + charge - p["pv"] - discharge
    imports, exports = np.maximum(net, 0), np.maximum(-net, 0)
    supply, demand = exports.sum(axis=1), imports.sum(axis=1)
    part = 0.0 if r.rule == "no_market" else r.shared
    local = np.floor(np.minimum(supply, demand) * part).astype(np.int64)
    bought, sold = _spread(local, imports), _spread(local, exports)
    ratio = supply / np.maximum(supply + demand, 1)
    price = np.rint(RETAIL_U - (RETAIL_U - FEED_IN_U) * ratio).astype(np.int64) + r.price_shift_u
    grid = _network(r, static, net)
    postings = _postings(static, price, bought, sold, imports, exports, grid["loss_wh"])
    baseline = (imports * (RETAIL_U + NETWORK_U + LEVY_U) - exports * FEED_IN_U) // 1000
    one_price = not static.pairs and r.rule not in ("no_market", "sharing_keys")
    zero = np.zeros_like(net)
    record = WindowRecord(
        first_slot=first, n_slots=n, load_wh=p["load"], heat_pump_wh=p["pump"], ev_wh=p["ev"], pv_wh=p["pv"],
        curtailed_wh=zero, charge_wh=charge, discharge_wh=discharge, soc_wh=stored, import_wh=imports,
        export_wh=exports, active=np.ones(net.shape, np.bool_), price_num=price, price_den=np.ones(n, np.int64),
        has_price=(local > 0) & (one_price or r.rule == "uniform_price"), bought_wh=bought, sold_wh=sold,
        trades=_trades(static, first, price, bought, sold), postings_u=postings, baseline_u=baseline,
        loss_wh=grid["loss_wh"], exchange_wh=net.sum(axis=1) + grid["loss_wh"], v_pu=grid["v"],
        branch_loading=grid["loading"], branch_p_kw=grid["flow"], losses_kw=grid["losses"], slack_p_kw=grid["slack"],
        carbon_kg_per_kwh=p["carbon"] if r.carbon else None, undelivered_wh=zero, **_origins(p),
    )  # fmt: skip
    return record, soc


def _origins(p: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each roof serves its own house; the grid does the rest."""
    use = p["load"] + p["pump"] + p["ev"]
    own = np.minimum(use, p["pv"])
    consumed = np.stack([own, use - own], axis=2)
    ways = np.stack([own, np.zeros_like(own), np.zeros_like(own)], axis=2)
    account = np.zeros((len(use), len(CERTIFICATE_ROWS), 2), np.int64)
    account[:, CERTIFICATE_ROWS.index("consumed")] = consumed.sum(axis=1)
    return {"origin_wh": consumed, "origin_ways_wh": ways, "certificates_wh": account}


def _trades(static: RunStatic, first: int, price: np.ndarray, bought: np.ndarray, sold: np.ndarray) -> TradeColumns:
    """The smaller cumulative sums meet, seller by seller, or everybody trades with the pool."""
    rows: list[tuple[int, int, int, int]] = []
    if static.rule != "no_market":
        for t in np.flatnonzero(sold.any(axis=1)):
            if static.pairs:
                cuts_s, cuts_b = np.cumsum(sold[t]), np.cumsum(bought[t])
                edges = np.unique(np.r_[0, cuts_s, cuts_b])
                sellers = np.searchsorted(cuts_s, edges[:-1], side="right")
                buyers = np.searchsorted(cuts_b, edges[:-1], side="right")
                rows += [
                    (int(t), int(i), int(j), int(e)) for i, j, e in zip(buyers, sellers, np.diff(edges), strict=True)
                ]
            elif not static.meter_based:
                rows += [(int(t), int(i), -1, int(bought[t, i])) for i in np.flatnonzero(bought[t])]
                rows += [(int(t), -1, int(i), int(sold[t, i])) for i in np.flatnonzero(sold[t])]
    table = np.array(rows, np.int64).reshape(-1, 4)
    slot, buyer, seller, e_wh = table.T
    at = price[slot] if len(slot) else slot
    return TradeColumns(slot + first, buyer, seller, e_wh, at, np.ones_like(at), at * e_wh // 1000)


def _postings(
    static: RunStatic, price: np.ndarray, bought: np.ndarray, sold: np.ndarray, imports: np.ndarray,
    exports: np.ndarray, loss: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    b = len(static.buildings)
    book = {kind: np.zeros((len(price), len(static.accounts)), np.int64) for kind in LEDGER_KINDS}
    book["contract"][:, :b] = (sold - bought) * price[:, None] // 1000
    book["residual"][:, :b] = ((exports - sold) * FEED_IN_U - (imports - bought) * RETAIL_U) // 1000
    book["network"][:, :b] = -((imports - bought) * NETWORK_U + bought * LOCAL_NETWORK_U) // 1000
    book["levies"][:, :b] = -(imports * LEVY_U) // 1000
    book["losses"][:, b + 2] = -(loss * 90_000 // 1000)
    for kind, account in (("contract", b + 1), ("residual", b), ("network", b + 2), ("levies", b + 3), ("losses", b)):
        book[kind][:, account] -= book[kind].sum(axis=1)
    return book


def _network(r: Recipe, static: RunStatic, net: np.ndarray) -> dict[str, Any]:
    n = len(static.buses)
    if not n:
        zero = np.zeros(len(net), np.int64)
        return {"loss_wh": zero, **dict.fromkeys(("v", "loading", "flow", "losses", "slack"))}
    hours = r.slot_s / 3600
    below = np.zeros((n - 1, n))
    for bus in range(n):
        here = bus
        while here > 0:
            below[here - 1, bus] = 1.0
            here = _parent(here)
    at_bus = np.zeros((len(static.buildings), n))
    for i, building in enumerate(static.buildings):
        at_bus[i, building.bus] = 1.0
    flow = (net @ at_bus / hours / 1000) @ below.T  # kW in each branch
    drop = np.where(np.arange(n - 1) == 0, 5e-5, 4.4e-4 * r.stress)
    v = 1.02 - (flow * drop) @ below
    rating = np.where(np.arange(n - 1) == 0, 250.0, 90.0)
    loading = np.abs(flow) / rating
    losses = (2e-5 * flow**2).sum(axis=1)
    loss_wh = np.rint(losses * hours * 1000).astype(np.int64)
    return {
        "v": v,
        "loading": loading,
        "flow": flow,
        "losses": losses,
        "slack": flow[:, 0] + losses,
        "loss_wh": loss_wh,
    }


def make_run(folder: Path, recipe: Recipe = Recipe(), *, window: int = 2688) -> Path:
    """Write the run of ``recipe`` as a run folder; gives the folder back."""
    static = make_static(recipe)
    writer = RunWriter(folder, static, TABLES)
    for record in records(recipe, static, window):
        writer.write(record)
    return writer.finish(scenario_text="format: 1\nname: synthetic\n", statements=False)


@pytest.mark.parametrize("rule", ["uniform_price", "mid_market_rate", "no_market"])
def test_the_synthetic_run_is_in_balance(tmp_path: Path, rule: str) -> None:
    recipe = Recipe(rule=rule, n_homes=6, n_buses=8, n_slots=96 * 2, start="2016-06-01T00:00:00+02:00")
    static = make_static(recipe)
    for record in records(recipe, static):
        for kind, posted in record.postings_u.items():
            assert not posted.sum(axis=1).any(), kind
        assert np.array_equal(record.bought_wh.sum(axis=1), record.sold_wh.sum(axis=1))
        assert (record.bought_wh <= record.import_wh).all()
        assert (record.sold_wh <= record.export_wh).all()
    run = Run(make_run(tmp_path / "run", recipe))
    assert len(run.table("slots")) == recipe.n_slots
