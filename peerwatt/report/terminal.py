"""Tables for a terminal of 80 columns: one run, and runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peerwatt.report.comparison import (
    KPIS,
    arm_names,
    best_arms,
    check_same_district,
    difference,
    kpi_values,
    reference_of,
)
from peerwatt.report.text import NOTHING, count, energy, fixed, label, mass, money, number, percent, plain, volts

if TYPE_CHECKING:
    from rich.table import Table

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
    for rows in (_energy_rows(summary), _money_rows(summary), _grid_rows(summary)):
        for name, value, more in rows:
            table.add_row(escape(name), value, escape(more))
        table.add_section()
    return table


def _energy_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    e, own, run = summary["energy"], summary["self_supply"], summary["run"]
    used = (e["load_kwh"] + e["heat_pump_kwh"] + e["ev_kwh"]) * 1000
    share = e["local_kwh"] * 1000 / used if used else None
    length = f"{count(run['n_slots'], 'slot')} of {plain(run['slot_s'] / 60)} min"
    return [
        ("used", energy(used), f"{count(run['n_buildings'], 'building')}, {length}"),
        ("made by PV", energy(e["pv_kwh"] * 1000), f"{energy(e['curtailed_kwh'] * 1000)} curtailed"),
        ("traded inside", energy(e["local_kwh"] * 1000), f"{percent(share)} of use" if used else ""),
        ("self-consumption", percent(own["shared_self_consumption"]),
         f"each building alone {percent(own['alone_self_consumption'])}"),
        ("self-sufficiency", percent(own["shared_self_sufficiency"]),
         f"each building alone {percent(own['alone_self_sufficiency'])}"),
    ]  # fmt: skip


def _money_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    m, s, p, currency = summary["money"], summary["savings"], summary["prices"], summary["run"]["currency"]
    rows = [("paid by all buildings", money(m["cost_u"] / MICRO, currency),
             f"without a market {money(m['baseline_u'] / MICRO, currency)}")]  # fmt: skip
    if summary["run"]["rule"] != "no_market":
        rows.append(("saved", money(m["savings"], currency), f"paying more: {count(s['negative'], 'building')}"))
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
        rows.append(("network losses", energy(g["losses_kwh"] * 1000), f"{percent(g['losses_share'], 2)} of imports"))
    rows += [
        (f"highest {kind} loading", percent(g[f"max_{kind}_loading"]), "")
        for kind in ("line", "transformer")
        if g[f"max_{kind}_loading"] is not None
    ]
    if v["checked"]:
        rows.append(("limit violations", f"{v['count']:,}", f"in {count(v['slots'], 'slot')}"))
    if c["imports_kg"] is not None:
        rows.append(("CO₂ of grid supply", mass(c["imports_kg"]), ""))
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
    table = Table(width=WIDTH, title="Compared with " + arms[reference], title_justify="left", title_style="bold",
                  pad_edge=False,
        box=SIMPLE)  # fmt: skip
    turned = len(arms) > 3
    shown = [k for k in KPIS if not turned or k.key in ("cost", "losers", "local", "inside", "peak", "reverse")]
    heads = [_short(k.key, currency) for k in shown] if turned else arms
    table.add_column("arm" if turned else "", ratio=2 if turned else 3)
    for head in heads:
        table.add_column(head, justify="right", ratio=1 if turned else 2)
    cells = [_cells(kpi_values(k, summaries), k.key, currency, summaries, turned) for k in shown]
    if turned:
        for i, arm in enumerate(arms):
            table.add_row(arm, *(column[i] for column in cells))
    else:
        for kpi, row in zip(shown, cells, strict=True):
            table.add_row(kpi.name, *row)
    return table


_SHORT = {"cost": "cost {}", "losers": "pay more", "local": "traded MWh", "inside": "met inside", "peak": "peak kW",
          "reverse": "reverse kW"}  # fmt: skip


def _short(key: str, currency: str) -> str:
    return _SHORT[key].format(currency)


def _cells(
    values: Sequence[float | None], key: str, currency: str, summaries: Sequence[Mapping[str, Any]], turned: bool
) -> list[str]:
    kpi = next(k for k in KPIS if k.key == key)
    best = best_arms(kpi, values)
    level = len(best) == sum(v is not None for v in values)
    base = values[reference_of(summaries)]
    cells = []
    for i, value in enumerate(values):
        if value is None:
            cells.append(NOTHING)
            continue
        text = _turned_text(key, value) if turned else kpi.show(value, currency)
        if i in best and not level:
            text = f"[bold]{text}[/bold]"
        if not turned and base is not None and i != reference_of(summaries) and value != base:
            text += f"\n[dim]{difference(kpi.key, value - base, currency)}[/dim]"
        cells.append(text)
    return cells


def _turned_text(key: str, value: float) -> str:
    if key in ("cost", "losers"):
        return fixed(value, 0)
    return percent(value) if key == "inside" else number(value / 1000 if key == "local" else value)
