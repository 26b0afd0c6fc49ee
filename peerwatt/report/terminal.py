"""Tables for a terminal of 80 columns: one run, and runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peerwatt.report.comparison import (
    arm_names,
    best_arms,
    check_same_district,
    difference,
    kpi_values,
    level,
    members_share,
    reference_of,
    same,
    shown_kpis,
)
from peerwatt.report.text import NOTHING, count, energy, fixed, label, mass, money, number, percent, plain, volts

if TYPE_CHECKING:
    from rich.table import Table

    from peerwatt.report.comparison import Kpi

MICRO = 1_000_000
WIDTH = 80
"""Columns of the narrowest terminal the tables are made for."""


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The key figures of a run as a table of at most 80 columns.

    Parameters
    ----------
    summary
        ``summary.json`` as a mapping.
    """
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    run = summary["run"]
    table = Table(title=escape(f"{run['title'] or run['name']} · {label(run['rule'])}"), width=WIDTH, show_header=False,
                  title_justify="left", title_style="bold", pad_edge=False,
        box=SIMPLE)  # fmt: skip
    table.add_column(style="dim", ratio=5)
    table.add_column(justify="right", ratio=3, no_wrap=True)
    table.add_column(ratio=6)
    blocks = (
        _energy_rows(summary),
        _money_rows(summary),
        _grid_rows(summary),
        _inverter_rows(summary),
        _outage_rows(summary),
        _device_rows(summary),
    )
    for rows in blocks:
        for name, value, more in rows:
            table.add_row(escape(name), value, escape(more))
        table.add_section()
    return table


def _energy_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    e, own, run = summary["energy"], summary["self_supply"], summary["run"]
    used = (e["load_kwh"] + e["heat_pump_kwh"] + e["ev_kwh"]) * 1000
    length = f"{count(run['n_slots'], 'slot')} of {plain(run['slot_s'] / 60)} min"
    rows = [
        ("used", energy(used), f"{count(run['n_buildings'], 'building')}, {length}"),
        ("made by PV", energy(e["pv_kwh"] * 1000), f"{energy(e['curtailed_kwh'] * 1000)} curtailed"),
        ("traded inside", energy(e["local_kwh"] * 1000), members_share(summary)),
    ]  # fmt: skip
    for key in ("self_consumption", "self_sufficiency"):
        rows.append((key.replace("_", "-"), percent(own[f"net_{key}"]),
                     f"each building alone {percent(own[f'alone_net_{key}'])}"))  # fmt: skip
        if e["charge_kwh"] or e["discharge_kwh"]:
            rows.append(("", percent(own[f"shared_{key}"]), "with charging counted as use"))
    return rows


def _money_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    m, s, p, currency = summary["money"], summary["savings"], summary["prices"], summary["run"]["currency"]
    rows = [("paid by all buildings", money(m["cost_u"] / MICRO, currency),
             f"without a market {money(m['baseline_u'] / MICRO, currency)}")]  # fmt: skip
    if summary["run"]["rule"] != "no_market":
        more = f"paying more: {s['negative']} of {count(s['counted_buildings'], 'building')}"
        if m["community_storage_u"] is None:
            rows.append(("saved", money(m["savings"], currency), more))
        else:
            store = m["community_storage_u"] / MICRO
            rows.append(("saved by the buildings", money(m["members_savings_u"] / MICRO, currency), more))
            rows.append((f"{'loss' if store < 0 else 'profit'} of the battery", money(abs(store), currency),
                         "the community's, against standing idle"))  # fmt: skip
            rows.append(("saved in all", money(m["savings"], currency), "all accounts, battery included"))
        if m["operator_surplus_u"]:
            rows.append(("operator's account", money(m["operator_surplus_u"] / MICRO, currency, signed=True),
                         "surplus" if m["operator_surplus_u"] > 0 else "deficit: somebody must pay it"))  # fmt: skip
        mean = p["volume_weighted_mean_per_kwh"]
        if mean is not None:
            span = f"{number(p['lowest_per_kwh'])} to {number(p['highest_per_kwh'])}"
            rows.append((f"mean price [{currency}/kWh]", number(mean), span))
        rows.append(("Gini / Jain of savings", f"{fixed(s['gini'], 2)} / {fixed(s['jain'], 2)}", ""))
    return rows


def _grid_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    g, v, c = summary["grid"], summary["violations"], summary["carbon"]
    rows = [
        ("highest draw", f"{number(g['peak_import_kw'])} kW", f"{energy(g['drawn_kwh'] * 1000)} drawn in all"),
        ("highest reverse flow", f"{number(g['peak_reverse_kw'])} kW", f"{energy(g['reverse_kwh'] * 1000)} fed back"),
    ]
    if g["v_min_pu"] is not None:
        minutes = plain(g["averaging_interval_s"] / 60)
        rows.append(("voltage [p.u.]", f"{volts(g['v_min_pu'])}–{volts(g['v_max_pu'])}",
                     f"{minutes}-minute means; not an EN 50160 assessment"))  # fmt: skip
        if "phases" in g:
            rows.append(("highest unbalance", percent(g["max_unbalance"], 2),
                         f"95 % of slots below {percent(g['unbalance_p95'], 2)}"))  # fmt: skip
        rows.append(("network losses", energy(g["losses_kwh"] * 1000), f"{percent(g['losses_share'], 2)} of imports"))
    rows += [
        (f"highest {kind} loading", percent(g[f"max_{kind}_loading"]), "")
        for kind in ("line", "transformer")
        if g[f"max_{kind}_loading"] is not None
    ]
    if g.get("max_neutral_loading") is not None:
        rows.append(("highest neutral loading", percent(g["max_neutral_loading"]), "of a phase's rated current"))
    if v["checked"]:
        rows.append(("limit violations", f"{v['count']:,}", f"in {count(v['slots'], 'slot')}"))
    if c["imports_kg"] is not None:
        rows.append(("CO₂ of grid supply", mass(c["imports_kg"]), ""))
    return rows


def _outage_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = summary.get("reliability")
    if not found:
        return []
    more = f"SAIFI {plain(round(found['saifi'], 3))}, MAIFI {plain(round(found['maifi'], 3))}"
    unserved = energy(found["unserved_kwh"] * 1000)
    stands = "the district stands alone" if found["microgrid"] else "nobody has supply then"
    return [
        (count(found["outages"], "outage"), f"SAIDI {number(found['saidi_minutes'])} min", more),
        ("load not supplied", unserved, stands),
    ]


def _inverter_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What inverters did for the grid, and whether they and the network met in every slot."""
    block = summary.get("inverters")
    if not block:
        return []
    lost = block["not_converged_slots"]
    met = f"NOT CONVERGED in {count(lost, 'slot')}" if lost else "converged in every slot"
    rows = [("reactive by inverters", f"{number(block['q_kvarh'])} kvarh", met)]
    if wh := block["curtailed_wh"]["voltage"]:
        rows.append(("curtailed for voltage", energy(wh), f"at {volts(block['v_with_pu'][1])} p.u. at most"))
    return rows


def _device_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What must not be missed where devices stood among the models; nothing for a run of models alone."""
    devices = summary.get("devices")
    if not devices:
        return []
    bound = energy(devices["bound_kwh"] * 1000)
    rows = [("deviation of devices", energy(devices["deviation_kwh"] * 1000),
             f"{'within' if devices['within_bound'] else 'BEYOND'} the bound of {bound}")]  # fmt: skip
    if devices["refused_set_points"]:
        rows.append(("set-points not taken", f"{devices['refused_set_points']:,}", "by a device or its guardian"))
    if devices["substituted_slots"]:
        rows.append(("readings not good", count(devices["substituted_slots"], "slot"), "the model's value stands in"))
    return rows


def comparison_table(summaries: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> Table:
    """Runs of one district side by side, at most 80 columns; the best of a row is bold, differences stand below.

    With more than three arms the table is turned: one row per arm, with the figures that matter most.

    Raises
    ------
    RunError
        If the runs cannot be compared.
    """
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    check_same_district(summaries)
    arms = [escape(name) for name in names or arm_names(summaries)]
    currency = str(summaries[0]["run"]["currency"])
    reference = reference_of(summaries)
    turned = len(arms) > 3
    table = Table(width=WIDTH, title="Compared with " + arms[reference], title_justify="left", title_style="bold",
                  pad_edge=False, padding=(0, 0, 0, 1) if turned else (0, 1), box=SIMPLE)  # fmt: skip
    shown = [k for k in shown_kpis(summaries) if not turned or (k.key in _SHORT and not _needless(k, summaries))]
    small = turned and _small(summaries)
    heads = [_short(k.key, currency, small) for k in shown] if turned else arms
    table.add_column("arm" if turned else "", ratio=3)
    for head in heads:  # turned: as wide as heads and figures need, the arms' names take the rest
        table.add_column(head, justify="right", ratio=None if turned else 2, no_wrap=turned)
    cells = [_cells(kpi_values(k, summaries), k, currency, summaries, turned) for k in shown]
    if turned:
        for i, arm in enumerate(arms):
            table.add_row(arm, *(column[i] for column in cells))
    else:
        for kpi, row in zip(shown, cells, strict=True):
            table.add_row(kpi.name, *row)
    return table


_SHORT = {"cost": "cost\n{}", "losers": "pay\nmore", "battery": "battery\n{}", "operator": "oper.\n{}",
          "local": "traded\n{}", "net": "self-\nsuff. %", "peak": "peak\nkW", "reverse": "back\nkW",
          "saidi": "SAIDI\nmin", "unserved": "uns.\nkWh"}  # fmt: skip


def _short(key: str, currency: str, small: bool) -> str:
    return _SHORT[key].format(("kWh" if small else "MWh") if key == "local" else currency)


def _needless(kpi: Kpi, summaries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a peak is the same in every arm: the findings say so, and the room is better used."""
    return kpi.key in ("peak", "reverse") and level(kpi, kpi_values(kpi, summaries))


def _small(summaries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether less than 1 MWh was traded in every arm, so that kWh say more."""
    return all(s["energy"]["local_kwh"] < 1000 for s in summaries)


def _cells(
    values: Sequence[float | None], kpi: Kpi, currency: str, summaries: Sequence[Mapping[str, Any]], turned: bool
) -> list[str]:
    best = best_arms(kpi, values)
    all_best = len(best) in (0, sum(v is not None for v in values))
    cents = max((abs(v) for v in values if v is not None), default=0.0) < 100
    small = _small(summaries)
    base = values[reference_of(summaries)]
    cells = []
    for i, value in enumerate(values):
        if value is None:
            cells.append(NOTHING)
            continue
        text = _turned_text(kpi.key, value, cents, small) if turned else kpi.show(value, currency)
        if i in best and not all_best:
            text = f"[bold]{text}[/bold]"
        if not turned and base is not None and i != reference_of(summaries) and not same(kpi, value, base):
            text += f"\n[dim]{difference(kpi.key, value - base, currency)}[/dim]"
        cells.append(text)
    return cells


def _turned_text(key: str, value: float, cents: bool, small: bool) -> str:
    if key in ("cost", "battery", "operator"):
        return fixed(value, 2 if cents else 0)
    if key == "losers":
        return fixed(value, 0)
    if key == "net":
        return fixed(value * 100, 1)
    return number(value / 1000 if key == "local" and not small else value)
