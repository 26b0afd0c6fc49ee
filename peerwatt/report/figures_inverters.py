"""Figures of inverters that support the grid: reactive power and curtailment by building, voltages with and without."""

from __future__ import annotations

from typing import Any

from peerwatt.report.data import ReportData
from peerwatt.report.figure import Figure, Panel, axis, bars, column, layout
from peerwatt.report.palette import BLUE, GREY, ORANGE, VERMILION
from peerwatt.report.text import count, energy, number, volts

REASON_WORDS = {"voltage": "high voltage", "rating": "rating of the inverter", "export_limit": "export limit"}


def inverter_figures(data: ReportData) -> list[Figure]:
    """What inverters did for the grid; nothing where none has functions."""
    block = data.summary.get("inverters")
    if not block:
        return []
    names = list(block["by_building"])
    of = [block["by_building"][name] for name in names]
    hover = "%{x}<br>%{y:.5~g} kvarh<extra>%{fullData.name}</extra>"
    reactive = [
        bars("absorbed", names, column([b["absorbed_kvarh"] for b in of], 3), BLUE, hovertemplate=hover),
        bars("injected", names, column([-b["injected_kvarh"] for b in of], 3), ORANGE, hovertemplate=hover),
    ]
    buildings = axis("building", type="category", showticklabels=len(names) <= 60)
    plan = layout(buildings, axis("reactive energy [kvarh], + absorbed"), height=380, barmode="relative")
    panels = [Panel("reactive energy", {"data": reactive, "layout": plan}, _sentence(block))]
    if any(block["curtailed_wh"].values()):
        shown = [(key, colour) for key, colour in zip(REASON_WORDS, (VERMILION, GREY, BLUE), strict=True)
                 if block["curtailed_wh"][key]]  # fmt: skip
        hover = "%{x}<br>%{y:.5~g} kWh<extra>%{fullData.name}</extra>"
        lost = [
            bars(REASON_WORDS[key], names, column([b["curtailed_wh"][key] / 1000 for b in of], 3), colour,
                 hovertemplate=hover)
            for key, colour in shown
        ]  # fmt: skip
        plan = layout(buildings, axis("curtailed PV [kWh]"), height=380, barmode="stack")
        panels.append(Panel("curtailed PV by reason", {"data": lost, "layout": plan}, _sentence(block)))
    return [
        Figure("inverters", "Inverters that support the grid", _sentence(block), tuple(panels), shown="tabs",
               note=convergence_words(block, data.static.n_slots)),
    ]  # fmt: skip


def _sentence(block: dict[str, Any]) -> str:
    (low, high), (low_with, high_with) = block["v_without_pu"], block["v_with_pu"]
    if low is None:
        return f"The inverters of {count(block['buildings'], 'building')} had no voltage to answer."
    text = (
        f"The inverters of {count(block['buildings'], 'building')} absorbed {number(block['absorbed_kvarh'])} kvarh "
        f"and injected {number(block['injected_kvarh'])} kvarh; voltages at them lay between {volts(low_with)} and "
        f"{volts(high_with)} p.u. instead of {volts(low)} and {volts(high)} p.u."
    )
    cut = {words: block["curtailed_wh"][key] for key, words in REASON_WORDS.items() if block["curtailed_wh"][key]}
    if cut:
        listed = ", ".join(f"{energy(wh)} for {words}" for words, wh in cut.items())
        text += f" PV curtailed there: {listed}."
    return text


def convergence_words(block: dict[str, Any], n_slots: int) -> str:
    """How voltages and inverters met, slot by slot."""
    lost = block["not_converged_slots"]
    met = f"in {count(lost, 'slot')} of {n_slots:,} they did not meet" if lost else "they met in every slot"
    return (
        f"Inverters and power flow were solved together: {number(block['iterations_mean'])} further power flows per "
        f"slot, at most {block['iterations_max']}; {met}."
    )
