"""Sums, extremes and histograms that grow with the district but not with the number of slots.

Every accumulator is one named numpy array, so that a checkpoint is a plain dictionary of arrays. Integers are summed as
integers; floating-point sums see the fixed chunks of ``buffer`` and are therefore the same however a run was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import RunError
from peerwatt.results.accumulate_origin import add_origins, origin_arrays
from peerwatt.results.envelopes import add_envelopes, envelope_arrays
from peerwatt.results.heat import add_heat, heat_arrays
from peerwatt.results.inverters import add_inverters, inverter_arrays
from peerwatt.results.phases import add_phases, histogram, phase_arrays
from peerwatt.results.record import LEDGER_KINDS, Float, Int, RunStatic, WindowRecord
from peerwatt.results.static import slot_grid
from peerwatt.results.violations import find_violations, kinds_of

BUILDING_FIELDS = (
    "load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "import_wh", "export_wh",
    "bought_wh", "sold_wh", "undelivered_wh",
)  # fmt: skip
"""Per-building energies that are summed by local month: ``month_<field>``, shape (months, buildings)."""

SUPPLIER_FIELDS = ("supplier_sold_wh", "supplier_bought_wh", "supplier_u")
PROFILE_FIELDS = ("load_wh", "pv_wh", "local_wh", "import_wh", "export_wh")
"""District energies summed by local month and hour: ``profile_<field>``, shape (months, 24)."""

V_LOW_PU, V_BIN_PU, V_BINS = 0.5, 0.001, 1000
"""Voltage histogram: bin i covers ``V_LOW_PU + i * V_BIN_PU`` and the next 0.001; values outside go to the ends."""

LOADING_BIN, LOADING_BINS = 0.01, 300
"""Loading histogram: bin i covers ``i * 0.01`` and the next 0.01 of rated load; the last bin takes the rest."""

CONTRACT_FIELDS = ("contract", "in_book", "residual")
"""``month_<field>_bought_wh`` and ``_sold_wh``, where ``RunStatic.gross``."""

_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Calendar:
    """Local month (counted from the run's first) and local hour of each slot of a chunk, shape (n_slots,)."""

    month: Int
    hour: Int

    def segments(self) -> list[tuple[int, slice]]:
        """Stretches of one month: (month, slots of the chunk)."""
        edges = [0, *(np.flatnonzero(np.diff(self.month)) + 1).tolist(), len(self.month)]
        return [(int(self.month[a]), slice(a, b)) for a, b in pairwise(edges)]


def month_labels(static: RunStatic) -> list[str]:
    """Local months of the run, ``2016-01`` and so on."""
    ends = _absolute_month(static, [0, max(static.n_slots - 1, 0)])
    return [str(np.datetime64(int(m), "M")) for m in range(int(ends[0]), int(ends[1]) + 1)]


def _absolute_month(static: RunStatic, slots: list[int]) -> Int:
    grid = slot_grid(static)
    dates = [grid.window(slot, 1).local_time(static.zone).date[0] for slot in slots]
    return np.array(dates).astype("datetime64[M]").astype(np.int64)


class Accumulator:
    """Adds up chunks of a run; see the module and ``docs/results.md`` for the arrays in ``values``."""

    def __init__(self, static: RunStatic) -> None:
        self.static = static
        self.grid = slot_grid(static)
        self._first_month = int(_absolute_month(static, [0])[0])
        self.values = _empty(static, len(month_labels(static)))

    def state(self) -> dict[str, NDArray[Any]]:
        """All arrays by name."""
        return dict(self.values)

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from arrays that ``state`` gave.

        Raises
        ------
        RunError
            If an array is missing or has another shape.
        """
        for name, array in self.values.items():
            if name not in state or state[name].shape != array.shape:
                raise RunError(f"the checkpoint does not fit the run: {name}", remedy="start the run again")
            self.values[name] = state[name].copy()

    def calendar(self, record: WindowRecord) -> Calendar:
        """Local months and hours of a chunk's slots."""
        local = self.grid.window(record.first_slot, record.n_slots).local_time(self.static.zone)
        months = local.date.astype("datetime64[M]").astype(np.int64) - self._first_month
        return Calendar(months, local.minute // 60)

    def add(self, record: WindowRecord) -> None:
        """Add one chunk; chunks come in slot order."""
        calendar = self.calendar(record)
        local_wh = record.bought_wh.sum(axis=1)
        price, priced = slot_prices(record, local_wh)
        self._add_energy(record, calendar)
        self._add_money(record, calendar)
        for name in ("standing_wh", "standing_u"):
            if (column := getattr(record, name)) is not None:
                for month, part in calendar.segments():
                    self.values[f"month_{name}"][month] += column[part].sum(axis=0)
        for name in SUPPLIER_FIELDS:
            if (column := getattr(record, name)) is not None:
                self.values[name] += column.sum(axis=0)
        self._add_profiles(record, calendar, local_wh, price, priced)
        self._add_prices(local_wh, price, priced)
        self._add_exchange(record, calendar, local_wh)
        self._add_sharing(record)
        self._add_attribution(record)
        self._add_grid(record)
        self._add_violations(record)
        add_origins(self.values, record, calendar, self.grid)
        add_heat(self.values, record, self.grid.hours)
        add_inverters(self.values, record, self.grid.hours)
        add_envelopes(self.values, record)

    def _add_energy(self, record: WindowRecord, calendar: Calendar) -> None:
        for name in BUILDING_FIELDS:
            target, column = self.values[f"month_{name}"], getattr(record, name)
            for month, part in calendar.segments():
                target[month] += column[part].sum(axis=0)
        residual = record.import_wh - record.export_wh - (record.bought_wh - record.sold_wh)
        for month, part in calendar.segments():
            self.values["month_retail_bought_wh"][month] += np.maximum(residual[part], 0).sum(axis=0)
            self.values["month_retail_sold_wh"][month] += np.maximum(-residual[part], 0).sum(axis=0)
        self._add_contracts(record, calendar)
        self.values["active_slots"] += record.active.sum(axis=0)
        self.values["n_trades"] += len(record.trades.slot)

    def _add_contracts(self, record: WindowRecord, calendar: Calendar) -> None:
        bought, sold = record.contract_bought_wh, record.contract_sold_wh
        if bought is None or sold is None:
            return
        in_book = (bought - sold) - (record.bought_wh - record.sold_wh)
        residual = (record.import_wh - record.export_wh) - (bought - sold)
        both = ((bought, sold), *((np.maximum(net, 0), np.maximum(-net, 0)) for net in (in_book, residual)))
        for name, columns in zip(CONTRACT_FIELDS, both, strict=True):
            for way, column in zip(("bought", "sold"), columns, strict=True):
                for month, part in calendar.segments():
                    self.values[f"month_{name}_{way}_wh"][month] += column[part].sum(axis=0)

    def _add_money(self, record: WindowRecord, calendar: Calendar) -> None:
        v, n = self.values, len(self.static.buildings)
        contract = record.postings_u["contract"][:, :n]
        net = record.bought_wh - record.sold_wh
        buying = (net > 0) | ((net == 0) & (contract < 0))
        purchase, sale = np.where(buying, -contract, 0), np.where(buying, 0, contract)
        for month, part in calendar.segments():
            for k, kind in enumerate(LEDGER_KINDS):
                v["month_posting_u"][month, k] += record.postings_u[kind][part].sum(axis=0)
            v["month_baseline_u"][month] += record.baseline_u[part].sum(axis=0)
            v["month_purchase_u"][month] += purchase[part].sum(axis=0)
            v["month_sale_u"][month] += sale[part].sum(axis=0)

    def _add_profiles(
        self, record: WindowRecord, calendar: Calendar, local_wh: Int, price: Float, priced: NDArray[np.bool_]
    ) -> None:
        v = self.values
        cell = calendar.month * 24 + calendar.hour
        cells, shape = v["profile_slots"].size, v["profile_slots"].shape

        def add(name: str, weights: NDArray[Any]) -> None:
            total = np.bincount(cell, weights=weights, minlength=cells).reshape(shape)
            v[name] += total.astype(v[name].dtype)

        add("profile_slots", np.ones(record.n_slots))
        load = (record.load_wh + record.heat_pump_wh + record.ev_wh).sum(axis=1)
        sums = (load, record.pv_wh.sum(axis=1), local_wh, record.import_wh.sum(axis=1), record.export_wh.sum(axis=1))
        for name, column in zip(PROFILE_FIELDS, sums, strict=True):
            add(f"profile_{name}", column)
        add("profile_price_slots", priced)
        add("profile_price_sum", np.where(priced, price, 0.0))
        if record.v_pu is not None and record.v_pu.shape[1]:
            add("profile_v_slots", record.live)
            volts = record.voltages.reshape(record.n_slots, -1)
            add("profile_v_min_sum", volts.min(axis=1))
            add("profile_v_mean_sum", volts.mean(axis=1))
            add("profile_v_max_sum", volts.max(axis=1))

    def _add_prices(self, local_wh: Int, price: Float, priced: NDArray[np.bool_]) -> None:
        v = self.values
        v["slots_with_trade"] += np.count_nonzero(local_wh > 0)
        v["slots_with_price"] += np.count_nonzero(priced)
        if not priced.any():
            return
        p, wh = price[priced], local_wh[priced]
        n, mean, m2 = len(p), float(p.mean()), float(((p - p.mean()) ** 2).sum())
        stat = v["price_stat"]  # n, mean, sum of squared deviations, volume [Wh], volume x price, sum of |change|, last
        old_n, old_mean = float(stat[0]), float(stat[1])
        delta = mean - old_mean
        stat[5] += float(np.abs(np.diff(p)).sum()) + (abs(p[0] - stat[6]) if old_n else 0.0)
        stat[2] += m2 + delta * delta * old_n * n / (old_n + n)
        stat[1] = old_mean + delta * n / (old_n + n)
        stat[0] += n
        stat[3] += float(wh.sum())
        stat[4] += float((wh * p).sum())
        stat[6] = p[-1]
        v["price_range"][:] = min(v["price_range"][0], p.min()), max(v["price_range"][1], p.max())

    def _add_exchange(self, record: WindowRecord, calendar: Calendar, local_wh: Int) -> None:
        v = self.values
        drawn, fed = np.maximum(record.exchange_wh, 0), np.maximum(-record.exchange_wh, 0)
        columns = {"drawn_wh": drawn, "fed_wh": fed, "loss_wh": record.loss_wh, "local_wh": local_wh}
        for name, column in columns.items():
            for month, part in calendar.segments():
                v[f"month_{name}"][month] += column[part].sum()
        for name, column in (("peak_drawn", drawn), ("peak_fed", fed)):
            at = int(column.argmax())
            if column[at] > v[name][0]:
                v[name][:] = column[at], record.first_slot + at
        if record.carbon_kg_per_kwh is not None:
            avoiding = np.maximum(record.pv_wh.sum(axis=1) - fed, 0)
            v["carbon_kg"][0] += float((drawn * record.carbon_kg_per_kwh).sum()) / 1000
            v["carbon_kg"][1] += float((avoiding * record.carbon_kg_per_kwh).sum()) / 1000
            v["carbon_slots"] += record.n_slots

    def _add_sharing(self, record: WindowRecord) -> None:
        v = self.values
        demand = record.load_wh + record.heat_pump_wh + record.ev_wh + record.charge_wh
        generation = record.pv_wh + record.discharge_wh
        alone = np.minimum(demand, generation)
        v["alone_wh"] += alone.sum(axis=0)
        inside = record.active
        community = np.minimum((demand * inside).sum(axis=1), (generation * inside).sum(axis=1))
        v["shared_wh"] += community.sum() + (alone * ~inside).sum()
        net = record.import_wh - record.export_wh
        together, outside = (net * inside).sum(axis=1), net * ~inside
        v["net_import_wh"] += np.maximum(together, 0).sum() + np.maximum(outside, 0).sum()
        v["net_export_wh"] += np.maximum(-together, 0).sum() + np.maximum(-outside, 0).sum()

    def _add_attribution(self, record: WindowRecord) -> None:
        v, n = self.values, len(self.static.buildings)
        if self.static.traced:
            trades = record.trades
            pair = (trades.buyer >= 0) & (trades.seller >= 0)
            cell = trades.seller[pair] * n + trades.buyer[pair]
            np.add.at(v["attribution_wh"].reshape(-1), cell, trades.e_wh[pair].astype(np.float64))
            np.add.at(v["attribution_u"].reshape(-1), cell, trades.amount_u[pair])
            return
        volume = np.maximum(record.bought_wh.sum(axis=1), record.sold_wh.sum(axis=1))
        for seller in np.flatnonzero(record.sold_wh.any(axis=0)).tolist():
            rows = np.flatnonzero(record.sold_wh[:, seller])
            share = record.sold_wh[rows, seller] / volume[rows]
            v["attribution_wh"][seller] += (share[:, None] * record.bought_wh[rows]).sum(axis=0)

    def _add_grid(self, record: WindowRecord) -> None:
        v = self.values
        if record.v_pu is not None and record.v_pu.shape[1] and record.live.any():
            volts = record.voltages[record.live]
            v["bus_slots"] += len(volts)
            v["bus_min_pu"][:] = np.minimum(v["bus_min_pu"], volts.min(axis=(0, 2)))
            v["bus_max_pu"][:] = np.maximum(v["bus_max_pu"], volts.max(axis=(0, 2)))
            v["bus_sum_pu"] += volts.mean(axis=2).sum(axis=0)
            for k in range(volts.shape[2]):  # with phases each slot counts three times
                v["bus_histogram"] += histogram((volts[:, :, k] - V_LOW_PU) * (1 / V_BIN_PU), V_BINS)
        if record.branch_loading is not None and record.branch_loading.shape[1]:
            loading = record.branch_loading
            v["branch_slots"] += record.n_slots
            v["branch_max_loading"][:] = np.maximum(v["branch_max_loading"], loading.max(axis=0))
            v["branch_sum_loading"] += loading.sum(axis=0)
            v["branch_histogram"] += histogram(loading * (1 / LOADING_BIN), LOADING_BINS)
        add_phases(v, record, self.grid.hours)
        if record.losses_kw is not None:
            v["losses_kwh"] += float(record.losses_kw.sum()) * self.static.slot_s / 3600

    def _add_violations(self, record: WindowRecord) -> None:
        v = self.values
        found = find_violations(record, self.static)
        if not len(found.slot):
            return
        v["violated_slots"] += len(np.unique(found.slot))
        n_buses = len(self.static.buses)
        counts = np.bincount(found.element, minlength=n_buses + len(self.static.branches))
        v["bus_violations"] += counts[:n_buses]
        v["branch_violations"] += counts[n_buses:]
        for kind in range(len(v["violations"])):
            rows = np.flatnonzero(found.kind == kind)
            v["violations"][kind] += len(rows)
            if len(rows):
                worst = rows[int(found.excess[rows].argmax())]
                if found.excess[worst] > v["worst_excess"][kind]:
                    v["worst_excess"][kind] = found.excess[worst]
                    v["worst_value"][kind] = found.value[worst]
                    v["worst_where"][kind] = found.slot[worst], found.element[worst]


def slot_prices(record: WindowRecord, local_wh: Int) -> tuple[Float, NDArray[np.bool_]]:
    """Price of each slot with trade [currency/kWh] and whether there is one.

    Rules with one price: that price. Others: the mean price of the slot's trades, weighted by energy.
    """
    n = record.n_slots
    trades = record.trades
    at = trades.slot - record.first_slot
    wh = np.bincount(at, weights=trades.e_wh, minlength=n)
    worth = np.bincount(at, weights=trades.e_wh * (trades.price_num / trades.price_den), minlength=n)
    by_trades = worth / np.where(wh > 0, wh, 1)
    one_price = record.price_num / np.where(record.has_price, record.price_den, 1)
    priced = (local_wh > 0) & (record.has_price | (wh > 0))
    return np.where(record.has_price, one_price, by_trades) / _MICRO, priced


def _empty(static: RunStatic, months: int) -> dict[str, NDArray[Any]]:
    b, a, kinds = len(static.buildings), len(static.accounts), len(kinds_of(static))
    n, r = len(static.buses), len(static.branches)
    integer: dict[str, tuple[int, ...]] = {f"month_{name}": (months, b) for name in BUILDING_FIELDS}
    integer |= {f"month_{name}": (months,) for name in ("drawn_wh", "fed_wh", "loss_wh", "local_wh")}
    by_building = ("retail_bought_wh", "retail_sold_wh", "baseline_u", "purchase_u", "sale_u")
    integer |= {f"month_{name}": (months, b) for name in by_building}
    if static.gross:
        integer |= {f"month_{name}_{way}_wh": (months, b) for name in CONTRACT_FIELDS for way in ("bought", "sold")}
    if static.suppliers:
        k = len(static.suppliers)
        integer |= {name: (k + (name == "supplier_u"),) for name in SUPPLIER_FIELDS}
    if static.standing:
        integer |= {f"month_{name}": (months, len(static.standing)) for name in ("standing_wh", "standing_u")}
    integer |= {f"profile_{name}": (months, 24) for name in (*PROFILE_FIELDS, "slots", "price_slots", "v_slots")}
    integer |= {
        "month_posting_u": (months, len(LEDGER_KINDS), a),
        "active_slots": (b,), "alone_wh": (b,), "shared_wh": (), "net_import_wh": (), "net_export_wh": (),
        "n_trades": (),
        "slots_with_trade": (), "slots_with_price": (), "carbon_slots": (),
        "peak_drawn": (2,), "peak_fed": (2,),
        "attribution_u": (b, b),
        "bus_slots": (), "bus_histogram": (n, V_BINS), "bus_violations": (n,),
        "branch_slots": (), "branch_histogram": (r, LOADING_BINS), "branch_violations": (r,),
        "violated_slots": (), "violations": (kinds,), "worst_where": (kinds, 2),
    }  # fmt: skip
    integer |= origin_arrays(static, months)
    real: dict[str, tuple[int, ...]] = {
        f"profile_{name}": (months, 24) for name in ("price_sum", "v_min_sum", "v_mean_sum", "v_max_sum")
    }
    real |= {
        "price_stat": (7,), "price_range": (2,), "carbon_kg": (2,), "attribution_wh": (b, b), "losses_kwh": (),
        "bus_min_pu": (n,), "bus_max_pu": (n,), "bus_sum_pu": (n,),
        "branch_max_loading": (r,), "branch_sum_loading": (r,),
        "worst_excess": (kinds,), "worst_value": (kinds,),
    }  # fmt: skip
    values: dict[str, NDArray[Any]] = {name: np.zeros(shape, np.int64) for name, shape in integer.items()}
    values |= {name: np.zeros(shape) for name, shape in real.items()} | phase_arrays(static)
    values |= heat_arrays(static) | inverter_arrays(static) | envelope_arrays(static)
    values["bus_min_pu"][:] = np.inf
    values["bus_max_pu"][:] = -np.inf
    values["price_range"][:] = np.inf, -np.inf
    return values
