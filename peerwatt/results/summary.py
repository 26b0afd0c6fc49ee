"""``summary.json``: the run's key figures from the accumulators. ``docs/results.md`` documents every key."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.bills import PERIOD_KINDS
from peerwatt.results.columns import FORMAT
from peerwatt.results.envelopes import envelope_notes, envelope_summary
from peerwatt.results.fairness import gini, jain
from peerwatt.results.heat import building_heat, heat_summary
from peerwatt.results.inverters import inverter_notes, inverter_summary
from peerwatt.results.phases import phase_summary
from peerwatt.results.record import LEDGER_KINDS, BuildingInfo, RunStatic
from peerwatt.results.remarks import readable_remarks
from peerwatt.results.static import slot_grid
from peerwatt.results.summary_origin import LOCAL, origin_summary
from peerwatt.results.violations import kinds_of

if TYPE_CHECKING:
    from market.settlement.bills import Bills

Values = Mapping[str, NDArray[Any]]
Block = dict[str, Any]

_MICRO = 1_000_000
_TOTALS = ("load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "import_wh",
           "export_wh")  # fmt: skip


def equipment(building: BuildingInfo) -> str:
    """What a building owns: ``pv``, ``battery``, ``pv_battery``, ``none``, or ``community`` for storage only."""
    if building.community:
        return "community"
    owned = [name for name, has in (("pv", building.pv_kw > 0), ("battery", building.battery_kwh > 0)) if has]
    return "_".join(owned) or "none"


def _yes_no(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


_GROUPINGS: dict[str, Callable[[BuildingInfo], str]] = {
    "tenure": lambda b: b.tenure or "unknown",
    "income_band": lambda b: b.income_band or "unknown",
    "roof": lambda b: _yes_no(b.roof),
    "vulnerable": lambda b: _yes_no(b.vulnerable),
    "equipment": equipment,
}


def summarise(
    static: RunStatic,
    values: Values,
    bills: Bills | None = None,
    devices: Mapping[str, Any] | None = None,
    blocks: Mapping[str, Any] | None = None,
) -> Block:
    """All key figures of a run.

    Parameters
    ----------
    static, values
        The run and its accumulators (``Accumulator.values``).
    bills
        Invoices; without them costs are the sums of the slots' postings.
    devices
        What devices did that stood among the models (`peerwatt.devices.account.devices_summary`); None without any.
    blocks
        Further blocks by name, of parts that a run may have (outages, inverters); left out where they are empty.

    Returns
    -------
    dict
        Plain Python values; undefined figures are None and their reason stands in ``undefined``.
    """
    undefined: dict[str, str] = {}
    actual, baseline = building_costs_u(static, values, bills)
    summary: Block = {
        "format": FORMAT,
        "run": _run(static),
        "energy": _energy(values),
        "self_supply": _self_supply(static, values, undefined),
        "prices": _prices(static, values, undefined),
        "grid": _grid(static, values),
        "violations": _violations(static, values),
        "origin": origin_summary(static, values, undefined),
        "carbon": _carbon(static, values, undefined),
        "money": _money(static, values, bills, actual, baseline),
        **({"suppliers": _suppliers(static, values)} if static.suppliers else {}),
        "savings": _savings(static, values, actual, baseline, undefined),
        "buildings": _buildings(static, values, actual, baseline),
        **({"heat": heat_summary(static, values)} if static.heated else {}),
        **({"inverters": inverter_summary(static, values)} if static.supporting else {}),
        **({"envelopes": envelope_summary(static, values)} if static.limited else {}),
        **({"devices": dict(devices)} if devices else {}),
        **{name: dict(block) for name, block in (blocks or {}).items() if block},
        "undefined": undefined,
        "notes": [
            *_notes(static, bills),
            *inverter_notes(static, values),
            *envelope_notes(static, values),
            *([devices["remark"]] if devices else []),
        ],
    }
    return summary


def summary_json(summary: Block) -> bytes:
    """The summary as indented JSON, keys in documented order."""
    return (json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def counted_members(static: RunStatic, values: Values) -> list[int]:
    """Indices of the buildings whose savings are counted: members in some slot, and not storage only."""
    return [i for i, b in enumerate(static.buildings) if not b.community and values["active_slots"][i] > 0]


def building_costs_u(static: RunStatic, values: Values, bills: Bills | None) -> tuple[list[int], list[int]]:
    """What each building pays, and would pay without a market, exact [micro-currency]; + pays."""
    n = len(static.buildings)
    if bills is None:
        paid = -values["month_posting_u"][:, :, :n].sum(axis=(0, 1))
        return paid.tolist(), values["month_baseline_u"].sum(axis=0).tolist()
    totals: list[list[int]] = []
    for column in (bills.total_u, bills.baseline_total_u):
        total = np.zeros(n, np.int64)
        np.add.at(total, bills.member, column)
        totals.append(total.tolist())
    return totals[0], totals[1]


def _ratio(name: str, top: float, bottom: float, reason: str, undefined: dict[str, str]) -> float | None:
    if bottom > 0:
        return top / bottom
    undefined[name] = reason
    return None


def _kwh(wh: Any) -> float:
    return int(wh) / 1000


def _currency(amount_u: int) -> float:
    return amount_u / _MICRO


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _run(static: RunStatic) -> Block:
    return {
        "id": static.run_id,
        "name": static.name,
        "title": static.title,
        "seed": static.seed,
        "rule": static.rule,
        "rule_parameters": static.rule_parameters,
        "currency": static.currency,
        "zone": static.zone,
        "start_utc": static.start_utc,
        "slot_s": static.slot_s,
        "n_slots": static.n_slots,
        "n_buildings": len(static.buildings),
        "n_buses": len(static.buses),
        "n_branches": len(static.branches),
        "phases": static.phases,
    }


def _energy(values: Values) -> Block:
    block: Block = {name.replace("_wh", "_kwh"): _kwh(values[f"month_{name}"].sum()) for name in _TOTALS}
    block["local_kwh"] = _kwh(values["month_local_wh"].sum())
    block["n_trades"] = int(values["n_trades"])
    block["ev_undelivered_kwh"] = _kwh(values["month_undelivered_wh"].sum())
    return block


def _demand_and_generation(values: Values) -> tuple[int, int]:
    demand = sum(int(values[f"month_{name}"].sum()) for name in ("load_wh", "heat_pump_wh", "ev_wh", "charge_wh"))
    return demand, sum(int(values[f"month_{name}"].sum()) for name in ("pv_wh", "discharge_wh"))


def _self_supply(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    demand, generation = _demand_and_generation(values)
    block = _net_supply(static, values, undefined)
    for name, wh in (("alone", int(values["alone_wh"].sum())), ("shared", int(values["shared_wh"]))):
        block[f"{name}_kwh"] = _kwh(wh)
        for share, total, reason in (
            ("self_consumption", generation, "there is no generation"),
            ("self_sufficiency", demand, "there is no consumption"),
        ):
            block[f"{name}_{share}"] = _ratio(f"self_supply.{name}_{share}", wh, total, reason, undefined)
    block["demand_kwh"], block["generation_kwh"] = _kwh(demand), _kwh(generation)
    return block


def _net_supply(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    """Shares that count no energy twice on its way through batteries: what crossed the border against use and PV."""
    use = np.asarray(sum(values[f"month_{name}"].sum(axis=0) for name in ("load_wh", "heat_pump_wh", "ev_wh")))
    pv = values["month_pv_wh"].sum(axis=0)
    homes = [i for i, b in enumerate(static.buildings) if not b.community]  # alone, a community battery serves nobody
    alone = [int(values[f"month_{way}_wh"][:, homes].sum()) for way in ("import", "export")]
    together = [int(values[f"net_{way}_wh"]) for way in ("import", "export")]
    block: Block = {"use_kwh": _kwh(use.sum())}
    for prefix, (drawn, fed), rows in (("", together, slice(None)), ("alone_", alone, homes)):
        for key, crossing, total, reason in (
            ("net_self_sufficiency", drawn, int(use[rows].sum()), "there is no consumption"),
            ("net_self_consumption", fed, int(pv[rows].sum()), "there is no generation"),
        ):
            name = prefix + key
            block[name] = _ratio(f"self_supply.{name}", total - crossing, total, reason, undefined)
    return block


def _prices(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    n, mean, m2, wh, worth, change, _ = (float(x) for x in values["price_stat"])
    block: Block = {
        "volume_weighted_mean_per_kwh": worth / wh if n else None,
        "mean_per_kwh": mean if n else None,
        "std_per_kwh": math.sqrt(m2 / n) if n else None,
        "mean_absolute_change_per_kwh": change / (n - 1) if n > 1 else None,
        "lowest_per_kwh": float(values["price_range"][0]) if n else None,
        "highest_per_kwh": float(values["price_range"][1]) if n else None,
        "slots_with_trade": int(values["slots_with_trade"]),
        "slots_without_trade": static.n_slots - int(values["slots_with_trade"]),
        "slots_with_price": int(values["slots_with_price"]),
    }
    for name, value in block.items():
        if value is None:
            undefined[f"prices.{name}"] = "fewer than two slots have a price" if n else "no slot has a price"
    return block


def _grid(static: RunStatic, values: Values) -> Block:
    grid = slot_grid(static)
    imported = int(values["month_import_wh"].sum())
    loss = int(values["month_loss_wh"].sum())
    block: Block = {
        "drawn_kwh": _kwh(values["month_drawn_wh"].sum()),
        "reverse_kwh": _kwh(values["month_fed_wh"].sum()),
    }
    for name, key in (("peak_import", "peak_drawn"), ("peak_reverse", "peak_fed")):
        wh, slot = (int(x) for x in values[key])
        block[f"{name}_kw"] = wh / 1000 / grid.hours
        block[f"{name}_start_utc"] = grid.start_of(slot).isoformat() if wh else None
    block["losses_kwh"] = _kwh(loss)
    block["losses_share"] = loss / imported if imported else None
    with_v = bool(values["bus_slots"]) and len(static.buses) > 0
    block["v_min_pu"] = float(values["bus_min_pu"].min()) if with_v else None
    block["v_max_pu"] = float(values["bus_max_pu"].max()) if with_v else None
    block["averaging_interval_s"] = static.slot_s if with_v else None
    for kind in ("line", "transformer"):
        chosen = [i for i, branch in enumerate(static.branches) if branch.kind == kind]
        known = bool(values["branch_slots"]) and chosen
        block[f"max_{kind}_loading"] = float(values["branch_max_loading"][chosen].max()) if known else None
    return block | (phase_summary(static, values) if with_v else {})


def _violations(static: RunStatic, values: Values) -> Block:
    elements = [bus.id for bus in static.buses] + [branch.id for branch in static.branches]
    grid = slot_grid(static)
    checked = bool(values["bus_slots"]) or bool(values["branch_slots"])
    kinds: Block = {}
    for k, kind in enumerate(kinds_of(static)):
        count = int(values["violations"][k])
        worst: Block | None = None
        if count:
            slot, element = (int(x) for x in values["worst_where"][k])
            worst = {
                "slot": slot,
                "start_utc": grid.start_of(slot).isoformat(),
                "element": elements[element],
                "value": float(values["worst_value"][k]),
                "excess": float(values["worst_excess"][k]),
            }
        kinds[kind] = {"count": count, "worst": worst}
    violated = int(values["violated_slots"])
    return {
        "checked": checked,
        "count": int(values["violations"].sum()) if checked else None,
        "slots": violated if checked else None,
        "share_of_slots": violated / static.n_slots if checked else None,
        "by_kind": kinds,
    }


def _carbon(static: RunStatic, values: Values, undefined: dict[str, str]) -> Block:
    known = static.n_slots > 0 and int(values["carbon_slots"]) == static.n_slots
    if not known:
        undefined["carbon"] = "the scenario names no carbon intensity for every slot"
    kg = values["carbon_kg"].tolist() if known else (None, None)
    return {"imports_kg": kg[0], "avoided_by_pv_kg": kg[1]}


def _money(static: RunStatic, values: Values, bills: Bills | None, actual: list[int], baseline: list[int]) -> Block:
    n = len(static.buildings)
    kinds: dict[str, NDArray[np.int64]] = dict(zip(LEDGER_KINDS, values["month_posting_u"].sum(axis=0), strict=True))
    if bills is not None:
        kinds |= {kind: bills.postings_u[kind].sum(axis=0) for kind in PERIOD_KINDS}
    accounts: Block = {}
    for a, account in enumerate(static.accounts[n:], start=n):
        accounts[account] = {f"{kind}_u": int(column[a]) for kind, column in kinds.items()}
    accounts["buildings"] = {f"{kind}_u": int(column[:n].sum()) for kind, column in kinds.items()}
    for account in accounts.values():
        account["total_u"] = sum(account.values())
    stores = [i for i, building in enumerate(static.buildings) if building.community]
    return {
        "costs_from": "slots" if bills is None else "bills",
        "cost_u": sum(actual),
        "baseline_u": sum(baseline),
        "savings_u": sum(baseline) - sum(actual),
        "savings": _currency(sum(baseline) - sum(actual)),
        "members_savings_u": sum(baseline[i] - actual[i] for i in counted_members(static, values)),
        "community_storage_u": sum(baseline[i] - actual[i] for i in stores) if stores else None,
        "operator_surplus_u": accounts["operator"]["total_u"],
        "accounts": accounts,
    }


def _suppliers(static: RunStatic, values: Values) -> Block:
    """What each named supplier sold, bought and received; ``rest_u`` of the retailer's account is nobody's alone."""
    sold, bought, received = (values[f"supplier_{name}"] for name in ("sold_wh", "bought_wh", "u"))
    found: Block = {
        name: {
            "sold_kwh": _kwh(sold[k]),
            "bought_kwh": _kwh(bought[k]),
            "received_u": int(received[k]),
        }
        for k, name in enumerate(static.suppliers)
    }
    return {"of": found, "rest_u": int(received[-1])}


def _savings(
    static: RunStatic, values: Values, actual: list[int], baseline: list[int], undefined: dict[str, str]
) -> Block:
    counted = counted_members(static, values)
    savings = [baseline[i] - actual[i] for i in range(len(actual))]
    chosen = [savings[i] for i in counted]
    if (g := gini(chosen)) is None:
        undefined["savings.gini"] = "the savings of the members sum to nothing or less"
    if (j := jain(chosen)) is None:
        undefined["savings.jain"] = "no member saves or loses anything"
    groups: Block = {}
    for name, group_of in _GROUPINGS.items():
        members: dict[str, list[int]] = {}
        for i in counted:
            members.setdefault(group_of(static.buildings[i]), []).append(i)
        groups[name] = {kind: _group(rows, savings, baseline) for kind, rows in sorted(members.items())}
    return {
        "counted_buildings": len(counted),
        "gini": _float(g),
        "jain": _float(j),
        "negative": sum(1 for x in chosen if x < 0),
        "lowest_u": min(chosen, default=None),
        "highest_u": max(chosen, default=None),
        "by_kind": groups,
    }


def _group(rows: list[int], savings: list[int], baseline: list[int]) -> Block:
    total, before = sum(savings[i] for i in rows), sum(baseline[i] for i in rows)
    return {
        "n": len(rows),
        "savings_u": total,
        "mean_savings": _currency(total) / len(rows),
        "lowest_u": min(savings[i] for i in rows),
        "highest_u": max(savings[i] for i in rows),
        "share_of_baseline": total / before if before > 0 else None,
        "negative": sum(1 for i in rows if savings[i] < 0),
    }


def _buildings(static: RunStatic, values: Values, actual: list[int], baseline: list[int]) -> Block:
    sums = {name: values[f"month_{name}"].sum(axis=0) for name in (*_TOTALS, "bought_wh", "sold_wh", "undelivered_wh")}
    demand = sum(sums[name] for name in ("load_wh", "heat_pump_wh", "ev_wh", "charge_wh"))
    generation = sums["pv_wh"] + sums["discharge_wh"]
    counted = set(counted_members(static, values))
    here = [k for k, name in enumerate(static.origins) if name.startswith(LOCAL)]
    local = values["month_origin"][:, :, here].sum(axis=(0, 2))
    used = values["month_origin"].sum(axis=(0, 2))
    block: Block = {}
    for i, building in enumerate(static.buildings):
        alone = int(values["alone_wh"][i])
        saved = baseline[i] - actual[i]
        block[building.id] = {
            "equipment": equipment(building),
            "counted": i in counted,
            "active_slots": int(values["active_slots"][i]),
            "cost_u": actual[i],
            "baseline_u": baseline[i],
            "savings_u": saved,
            "savings": _currency(saved),
            "savings_share": saved / abs(baseline[i]) if baseline[i] else None,
            **{name.replace("_wh", "_kwh"): _kwh(column[i]) for name, column in sums.items()},
            "self_consumption": alone / int(generation[i]) if generation[i] else None,
            "self_sufficiency": alone / int(np.asarray(demand)[i]) if np.asarray(demand)[i] else None,
            "local_share": int(local[i]) / int(used[i]) if used[i] else None,
            **building_heat(static, values, i),
        }
    return block


def _notes(static: RunStatic, bills: Bills | None) -> list[str]:
    """How the figures are meant, then the run's own remarks (hourly data, balanced network, attribution, gaps)."""
    minutes = static.slot_s / 60
    notes = [
        "Net self-sufficiency and self-consumption count no energy twice on its way through batteries; the others "
        "count charging as load and discharging as generation.",
        "Shared figures compare the members' sums of each slot, whatever the market did; they need no trade.",
    ]
    if static.buses:
        notes.append(f"Voltages and loadings are {minutes:g}-minute means; not an EN 50160 assessment.")
    if static.heated:
        notes.append("Indoor temperatures are those of a building with one thermal mass, at the end of each slot.")
    if bills is None:
        notes.append("Costs are the sums of the slots' postings; fixed charges and tax on invoices are not in them.")
    return [*notes, *readable_remarks(static.remarks)]
