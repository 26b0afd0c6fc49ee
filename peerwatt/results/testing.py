"""Made-up runs whose books balance, for tests of what writes or reads run folders. No model of anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import keyed_generator
from market.certificates import PPM, EnergyFlows, LocalTrades, OriginSetup, trace
from market.settlement.bills import Bills
from peerwatt.results.record import (
    LEDGER_KINDS,
    SYSTEM_ACCOUNTS,
    BranchInfo,
    BuildingInfo,
    BusInfo,
    Int,
    RunStatic,
    TradeColumns,
    WindowRecord,
)
from peerwatt.results.static import slot_grid

RETAIL_U, FEED_IN_U, NETWORK_U, LEVIES_U = 320_000, 80_000, 60_000, 20_000
"""Prices of the made-up district [micro-currency per kWh]."""

_TENURES, _INCOMES = ("owner", "tenant", "social", None), ("low", "middle", "high", None)


def made_up_static(
    n_buildings: int = 6,
    n_slots: int = 300,
    *,
    pairs: bool = True,
    network: bool = True,
    slot_s: int = 900,
    start_utc: str = "2016-03-25T23:00:00+00:00",
    zone: str = "Europe/Berlin",
) -> RunStatic:
    """A district on one feeder: two in three buildings have PV, one in three a battery, the last is storage only."""
    buildings = tuple(
        BuildingInfo(
            id=f"h{i:02d}", bus=i + 1 if network else -1, contract="default", tenure=_TENURES[i % 4],
            income_band=_INCOMES[(i + 1) % 4], roof=i % 3 != 2, vulnerable=None if i % 5 == 4 else i % 5 == 1,
            pv_kw=5.0 if i % 3 != 2 else 0.0, battery_kwh=8.0 if i % 3 == 1 else 0.0, ev=i % 4 == 0, heat_pump=False,
            community=n_buildings > 3 and i == n_buildings - 1,
        )
        for i in range(n_buildings)
    )  # fmt: skip
    buses = tuple(
        BusInfo(f"bus {i}", f"Bus {i}", 0.4, float(i) if i else float("nan"), 0.0, 0.9, 1.1)
        for i in range(n_buildings + 1 if network else 0)
    )
    lines = tuple(
        BranchInfo(f"line {i}", f"Line {i}", "line", i, i + 1, 1.0) for i in range(1, n_buildings if network else 0)
    )
    transformer = (BranchInfo("transformer 0", "Transformer", "transformer", 0, 1, 1.0),) if network else ()
    return RunStatic(
        run_id="0123456789abcdef", name="made-up", title="A made-up district", seed=7, currency="EUR", zone=zone,
        start_utc=start_utc, slot_s=slot_s, n_slots=n_slots, rule="pair_price" if pairs else "uniform_price",
        rule_parameters={"k": "1/2"}, meter_based=False, pairs=pairs, phases=1, buildings=buildings, buses=buses,
        branches=lines + transformer, notices=("Made-up data.",), remarks=("Nothing here is real.",),
        options={"origins": ["local_solar", "grid", "wind", "unknown"], "heated": [buildings[0].id]},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MadeUpRun:
    """A whole run at once, to be cut into records at will."""

    static: RunStatic
    whole: WindowRecord

    @classmethod
    def of(cls, static: RunStatic) -> MadeUpRun:
        """The made-up run of a district; equal districts give equal runs."""
        return cls(static, _whole_run(static))

    def record(self, first: int, n: int) -> WindowRecord:
        """Slots ``first .. first + n - 1``."""
        w, part = self.whole, slice(first, first + n)
        low, high = np.searchsorted(w.trades.slot, [first, first + n])
        values: dict[str, Any] = {}
        for name in WindowRecord.__slots__:
            value = getattr(w, name)
            values[name] = value[part] if isinstance(value, np.ndarray) else value
        values["first_slot"], values["n_slots"] = first, n
        values["postings_u"] = {kind: column[part] for kind, column in w.postings_u.items()}
        values["trades"] = TradeColumns(*(getattr(w.trades, c)[low:high] for c in TradeColumns.__slots__))
        return WindowRecord(**values)

    def bills(self) -> Bills:
        """Invoices by local month with 19 % tax on what is bought, as settlement would give them."""
        return _bills(self.static, self.whole)


def _whole_run(static: RunStatic) -> WindowRecord:
    rng = keyed_generator(static.seed, "made-up", static.name)
    s, b = static.n_slots, len(static.buildings)
    hour = (np.arange(s) * static.slot_s / 3600) % 24
    pv_kw = np.array([x.pv_kw for x in static.buildings])
    battery = np.array([x.battery_kwh > 0 for x in static.buildings])
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0) * rng.uniform(0.2, 1.0, s)
    step_wh = static.slot_s / 3.6
    pv = np.round(sun[:, None] * pv_kw * step_wh).astype(np.int64)
    load = np.round(rng.gamma(2.0, 0.2, (s, b)) * step_wh).astype(np.int64)
    ev = np.where(rng.random((s, b)) < 0.03 * np.array([x.ev for x in static.buildings]), int(4 * step_wh), 0)
    charge = np.where(battery & (rng.random((s, b)) < 0.2), int(step_wh), 0)
    discharge = np.where(battery & (charge == 0) & (rng.random((s, b)) < 0.2), int(step_wh), 0)
    net = load + ev + charge - pv - discharge
    imports, exports = np.maximum(net, 0), np.maximum(-net, 0)
    active = np.ones((s, b), np.bool_)
    active[: s // 4, 0] = False
    trades, bought, sold, contract, price = _trade(static, imports * active, exports * active)
    postings = _postings(static, imports, exports, bought, sold, contract)
    loss = rng.integers(0, 20, s)
    energies = {"load_wh": load, "heat_pump_wh": load // 10 * 0, "ev_wh": ev, "pv_wh": pv, "curtailed_wh": pv // 20,
                "charge_wh": charge, "discharge_wh": discharge, "soc_wh": rng.integers(0, 8000, (s, b)) * battery,
                "import_wh": imports, "export_wh": exports, "bought_wh": bought, "sold_wh": sold,
                "undelivered_wh": np.where(rng.random((s, b)) < 0.001, 500, 0)}  # fmt: skip
    exchange = net.sum(axis=1) + loss
    traded = bought.sum(axis=1) > 0
    baseline = (imports * (RETAIL_U + NETWORK_U + LEVIES_U) - exports * FEED_IN_U) // 1000
    grid = _grid(static, rng, net, exchange)
    traced = _origins(static, energies, loss)
    one = traded & (not static.pairs)
    warmth = np.array([0.0, 3.0, -4.0, 19.5, 20.0, 23.0]) * np.ones((s, len(static.heated), 1))
    warmth[:, :, 3] += np.sin(hour)[:, None]
    return WindowRecord(
        first_slot=0, n_slots=s, **energies, active=active, price_num=np.where(one, price, 0),
        price_den=np.ones(s, np.int64), has_price=one, trades=trades, postings_u=postings, baseline_u=baseline,
        loss_wh=loss, exchange_wh=exchange, **traced, carbon_kg_per_kwh=0.3 + 0.1 * np.sin(hour),
        heat=warmth, **grid,
    )  # fmt: skip


def _origins(static: RunStatic, e: dict[str, Int], loss_wh: Int) -> dict[str, Any]:
    """Origins of the made-up energies: half of what the grid supplies is wind, local energy goes through a pool."""
    b = len(static.buildings)
    mix = np.tile(np.array([0, PPM // 2, PPM // 2, 0]), (b + 1, 1))
    store = np.where([x.battery_kwh > 0 for x in static.buildings], np.arange(b), -1)
    store[store >= 0] = np.arange(np.count_nonzero(store >= 0))
    setup = OriginSetup(static.origins, np.zeros(b, np.int64), mix, 3, store, np.arange(b))
    charge, discharge = (e[name] * (store >= 0) for name in ("charge_wh", "discharge_wh"))
    flows = EnergyFlows(
        e["load_wh"] + e["heat_pump_wh"] + e["ev_wh"], e["pv_wh"], charge, discharge, charge, discharge,
        np.zeros_like(charge), e["soc_wh"], e["bought_wh"], e["sold_wh"], loss_wh, LocalTrades.none(),
    )  # fmt: skip
    traced, _ = trace(setup, setup.initial(), flows)
    return {
        "origin_wh": traced.consumed_wh, "origin_ways_wh": traced.ways_wh, "certificates_wh": traced.account_wh
    }  # fmt: skip


def _trade(static: RunStatic, want: Int, have: Int) -> tuple[TradeColumns, Int, Int, Int, Int]:
    """Walk buyers and sellers of each slot in order; price 200000 plus a little by slot."""
    s, b = want.shape
    bought, sold, contract = np.zeros_like(want), np.zeros_like(want), np.zeros_like(want)
    price = 200_000 + 1000 * (np.arange(s) % 7)
    rows: list[tuple[int, ...]] = []
    for t in range(s):
        left, offer = want[t].copy(), have[t].copy()
        for i in np.flatnonzero(left).tolist():
            for j in np.flatnonzero(offer).tolist():
                wh = int(min(left[i], offer[j]))
                if wh:
                    amount = round(int(price[t]) * wh / 1000)
                    rows.append((t, i, j, wh, int(price[t]), 1, amount))
                    left[i] -= wh
                    offer[j] -= wh
                    bought[t, i] += wh
                    sold[t, j] += wh
                    contract[t, i] -= amount
                    contract[t, j] += amount
    if not static.pairs:
        rows = [
            row
            for t in range(s)
            for i in range(b)
            for row in (
                ((t, i, -1, bought[t, i], price[t], 1, -contract[t, i]),) if bought[t, i] else
                ((t, -1, i, sold[t, i], price[t], 1, contract[t, i]),) if sold[t, i] else ()
            )
        ]  # fmt: skip
    columns = np.array(rows, dtype=np.int64).reshape(-1, 7).T
    return TradeColumns(*(np.ascontiguousarray(c) for c in columns)), bought, sold, contract, price


def _postings(static: RunStatic, imports: Int, exports: Int, bought: Int, sold: Int, contract: Int) -> dict[str, Int]:
    s, b = imports.shape
    retailer, _, network, state = (b + i for i in range(len(SYSTEM_ACCOUNTS)))
    columns = {
        "contract": (contract, b + 1),
        "residual": (-((imports - bought) * RETAIL_U - (exports - sold) * FEED_IN_U) // 1000, retailer),
        "network": (-(imports * NETWORK_U - bought * (NETWORK_U // 2)) // 1000, network),
        "levies": (-(imports * LEVIES_U) // 1000, state),
    }
    postings = {kind: np.zeros((s, b + len(SYSTEM_ACCOUNTS)), np.int64) for kind in LEDGER_KINDS}
    for kind, (members, other) in columns.items():
        postings[kind][:, :b] = members
        postings[kind][:, other] -= members.sum(axis=1)
    postings["losses"][:, network], postings["losses"][:, retailer] = -7, 7
    return postings


def _grid(static: RunStatic, rng: np.random.Generator, net: Int, exchange: Int) -> dict[str, Any]:
    if not static.buses:
        return dict.fromkeys(("v_pu", "branch_loading", "branch_p_kw", "losses_kw", "slack_p_kw"))
    s = net.shape[0]
    kw = exchange * (3.6 / static.slot_s)
    v = 1.0 - 0.002 * kw[:, None] * rng.uniform(0.5, 4.0, (s, len(static.buses)))
    p_kw = kw[:, None] * rng.uniform(0.1, 1.0, (s, len(static.branches)))
    return {"v_pu": v, "branch_loading": np.abs(p_kw) / 15, "branch_p_kw": p_kw, "losses_kw": np.abs(kw) * 0.01,
            "slack_p_kw": kw}  # fmt: skip


def _bills(static: RunStatic, w: WindowRecord) -> Bills:
    b = len(static.buildings)
    months = slot_grid(static).local_time(static.zone).date.astype("datetime64[M]")
    labels, month = np.unique(months, return_inverse=True)

    def by_month(column: Int) -> Int:
        total = np.zeros((len(labels), b), np.int64)
        np.add.at(total, month, column)
        return total.ravel()

    contract = w.postings_u["contract"][:, :b]
    residual = -w.postings_u["residual"][:, :b]
    zero = np.zeros_like(residual)
    fixed = np.full(len(labels) * b, 10_000_000, np.int64)
    lines = {
        "local_bought": by_month(np.maximum(-contract, 0)), "local_sold": by_month(np.minimum(-contract, 0)),
        "retail_bought": by_month(np.maximum(residual, 0)), "retail_sold": by_month(np.minimum(residual, 0)),
        "network": by_month(-w.postings_u["network"][:, :b]), "levies": by_month(-w.postings_u["levies"][:, :b]),
        "fixed": fixed, "demand": by_month(zero),
    }  # fmt: skip
    base = {name: by_month(zero) for name in lines} | {"retail_bought": by_month(w.baseline_u), "fixed": fixed}
    for group in (lines, base):
        taxable = sum(group[name] for name in ("local_bought", "retail_bought", "network", "levies", "fixed"))
        group["vat"] = np.asarray(taxable * 19 // 100, np.int64)
    totals = [np.sum(list(group.values()), axis=0) for group in (lines, base)]
    shape = (len(labels), b)
    payees = {"fixed": 2, "demand": 2, "vat": 3}
    posted = {name: _posted(lines[name].reshape(shape), b, at) for name, at in payees.items()}
    peak = np.zeros(shape)
    np.maximum.at(peak, month, w.import_wh * (3.6 / static.slot_s))
    names: NDArray[np.str_] = np.datetime_as_string(labels)
    return Bills(
        period=np.repeat(names, b), member=np.tile(np.arange(b), len(labels)), lines_u=lines, total_u=totals[0],
        baseline_lines_u=base, baseline_total_u=totals[1], import_wh=by_month(w.import_wh),
        export_wh=by_month(w.export_wh), bought_wh=by_month(w.bought_wh), sold_wh=by_month(w.sold_wh),
        peak_kw=peak.ravel(), postings_u=posted,
    )  # fmt: skip


def _posted(paid: Int, b: int, account: int) -> Int:
    posted = np.zeros((len(paid), b + len(SYSTEM_ACCOUNTS)), np.int64)
    posted[:, :b] = -paid
    posted[:, b + account] = paid.sum(axis=1)
    return posted
