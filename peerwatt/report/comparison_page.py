"""The comparison page: runs of one district under several rules, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core import RunError
from peerwatt.report.comparison import (
    MICRO,
    SMALLEST,
    Kpi,
    Summary,
    arm_names,
    battery_account,
    best_arms,
    changes,
    check_same_district,
    comparison_document,
    comparison_findings,
    difference,
    flows_differ,
    in_words,
    is_low_tech,
    kpi_values,
    level,
    reference_of,
    same,
    shown_kpis,
)
from peerwatt.report.data import EQUIPMENT
from peerwatt.report.figure import Figure, Panel, Spec, absent, axis, bars, layout
from peerwatt.report.page import Cell, Section, figure_html, list_html, page_html, table_html
from peerwatt.report.paired import pairs_table
from peerwatt.report.palette import GREY, KINDS, with_alpha
from peerwatt.report.text import NOTHING, count, html, label, listing, money, number, plain, settings
from peerwatt.report.uncertainty import enough_seeds, over_buildings
from peerwatt.report.wording import NOT_STATED, household_kind, practically_nothing, profit_or_loss
from peerwatt.results import Run
from peerwatt.results.record import BuildingInfo, RunStatic
from peerwatt.results.summary import equipment

_UNITS = {"local": ("MWh", 1e-3), "inside": ("%", 100.0), "net": ("%", 100.0),
          "peak": ("kW", 1.0), "reverse": ("kW", 1.0),
          "losses": ("kWh", 1.0), "violations": ("count", 1.0), "carbon": ("kg", 1.0),
          "saidi": ("min", 1.0), "unserved": ("kWh", 1.0)}  # fmt: skip

ATTRIBUTES: dict[str, Callable[[BuildingInfo], str]] = {
    "equipment": lambda b: EQUIPMENT.get(equipment(b), equipment(b)),
    "tenure": lambda b: household_kind("tenure", b.tenure),
    "income band": lambda b: household_kind("income_band", b.income_band),
    "roof": lambda b: household_kind("roof", b.roof),
    "vulnerable": lambda b: household_kind("vulnerable", b.vulnerable),
}
"""By what buildings are grouped to say who gains and who loses."""


def write_comparison(
    folders: Sequence[Path], out: Path, *, sentences: Sequence[str] = (), names: Sequence[str] | None = None
) -> Path:
    """Write a self-contained page that lays finished runs of one district side by side.

    Parameters
    ----------
    folders
        Run folders, one of them without a market.
    out
        The HTML file to write; its folder is made. Table and sentences stand beside it as JSON, under the same name.
    sentences
        What the caller has to say first (what was varied, which arms were added); the computed findings follow.
    names
        Names of the arms; default: by their rules.

    Raises
    ------
    RunError
        If the runs are not of one district and span, or none is without a market.
    """
    runs = [Run(folder) for folder in folders]
    summaries = [run.summary for run in runs]
    check_same_district(summaries, [str(folder) for folder in folders])
    arms = list(names or arm_names(summaries))
    if len(arms) != len(runs):
        raise RunError(f"{len(runs)} runs have {len(arms)} names")
    findings = [*sentences, *comparison_findings(summaries, arms)]
    page = render_comparison(runs[0].static, summaries, arms, findings)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    figures = json.dumps(comparison_document(summaries, arms, findings), indent=2, ensure_ascii=False)
    out.with_suffix(".json").write_text(figures + "\n", encoding="utf-8")
    return out


def render_comparison(
    static: RunStatic, summaries: Sequence[Summary], arms: Sequence[str], findings: Sequence[str]
) -> str:
    """The page as text; ``static`` is that of any of the runs."""
    reference = reference_of(summaries)
    money_figures = [costs(summaries, arms), distribution(summaries, arms)]
    who = [by_household(static, summaries, arms)]
    grid = [small_multiples(summaries, arms)]
    title = static.title or static.name
    minutes = plain(static.slot_s / 60)
    low = [arms[i] for i, s in enumerate(summaries) if is_low_tech(s)]
    sections = [
        Section("findings", "What the comparison says", f'<div class="box">{list_html(findings, "findings")}</div>'),
        Section("table", "Key figures", kpi_table(summaries, arms)),
        Section("money", "Costs", "".join(figure_html(f) for f in money_figures)),
        Section("who", "Who gains, who loses", "".join(figure_html(f) for f in who)),
        Section("sure", "How sure the differences are", _sure_html(summaries, arms, static.currency)),
        Section("grid", "Grid and energy", "".join(figure_html(f) for f in grid)),
        Section("arms", "The arms", _arms_html(summaries, arms)),
    ]
    return page_html(
        title=f"{title}: rules compared",
        brand="peerwatt comparison",
        lead=(
            f"The same {count(len(static.buildings), 'building')} and the same span under {count(len(arms), 'arm')}: "
            f"{listing(list(arms))}. Arms that need no trading: {listing(low)}."
        ),
        facts=[("Reference", arms[reference]), ("Slots", f"{static.n_slots:,} of {minutes} min"),
               ("Currency", static.currency), ("Network", "balanced network" if static.buses and static.phases == 1
                                               else ("none" if not static.buses else "solved phase by phase"))],
        sections=sections,
        figures=[*money_figures, *who, *grid],
        footer="Made by peerwatt. This page is complete in itself and loads nothing.",
    )  # fmt: skip


def _sure_html(summaries: Sequence[Summary], arms: Sequence[str], currency: str) -> str:
    """Costs per building under one arm less those under another, with paired tests."""
    pairs = over_buildings(summaries, arms)
    words = (
        "Each building is its own control: what it pays under one arm less what it pays under the other, on average "
        "over buildings. The interval says how far the mean may be off for buildings like these; it says nothing of "
        "other years or other draws, which a comparison over seeds (compare --seeds) does."
    )
    if pairs and pairs[0].n < enough_seeds(len(pairs)):
        words += (
            f" With {pairs[0].n} buildings no test among {len(pairs)} pairs can reach the 5 % level, however clear the "
            "difference; intervals, which are each for one pair alone, and effect sizes stand."
        )
    return f"<p>{words}</p>{pairs_table([(None, p) for p in pairs], currency)}"


def kpi_table(summaries: Sequence[Summary], arms: Sequence[str]) -> str:
    """Key figures of all arms with their differences against the reference; the best of a row is bold."""
    reference = reference_of(summaries)
    currency = summaries[0]["run"]["currency"]
    rows = []
    for kpi in shown_kpis(summaries):
        values = kpi_values(kpi, summaries)
        best = best_arms(kpi, values)
        all_best = len(best) in (0, sum(v is not None for v in values))
        way = {"low": "lower is better", "high": "higher is better", "none": ""}[kpi.better]
        hint = "; ".join(words for words in (kpi.hint, way) if words)
        name = f'{html(kpi.name[:1].upper() + kpi.name[1:])}<span class="delta">{hint}</span>'
        row = [Cell(kpi.name, markup=name)]
        for i, value in enumerate(values):
            row.append(_kpi_cell(kpi, value, values[reference], currency, i in best and not all_best, i == reference))
        rows.append(row)
    heads = ["Figure", *(f"{arm} (reference)" if i == reference else arm for i, arm in enumerate(arms))]
    caption = f"Small: difference from {arms[reference]}. Bold: best of the row; no bold: no difference."
    return f'<div class="box sticky">{table_html(caption, heads, rows, [False] + [True] * len(arms))}</div>'


def _kpi_cell(kpi: Kpi, value: float | None, base: float | None, currency: str, best: bool, is_reference: bool) -> Cell:
    if value is None:
        return Cell(NOTHING)
    text = kpi.show(value, currency)
    delta = ""
    if not is_reference and base is not None:
        words = "no difference" if same(kpi, value, base) else difference(kpi.key, value - base, currency)
        delta = f'<span class="delta">{html(words)}</span>'
    return Cell(text, value, f"{html(text)}{delta}", best)


def _colours(summaries: Sequence[Summary]) -> list[str]:
    """A colour per arm; the reference is grey."""
    reference = reference_of(summaries)
    free = iter(KINDS[:-1] * (1 + len(summaries) // 7))
    return [GREY if i == reference else next(free) for i in range(len(summaries))]


def costs(summaries: Sequence[Summary], arms: Sequence[str]) -> Figure:
    """What all buildings pay together, per arm."""
    currency = summaries[0]["run"]["currency"]
    values = [s["money"]["cost_u"] / MICRO for s in summaries]
    trace = bars("paid", list(arms), [round(v, 2) for v in values], _colours(summaries),
                 text=[money(v, currency) for v in values], textposition="auto", cliponaxis=False,
                 hovertemplate=f"%{{x}}: %{{y:,.2f}} {currency}<extra></extra>")  # fmt: skip
    plan = layout(axis("arm", type="category"), axis(f"paid by all buildings [{currency}]", zeroline=True), height=330)
    shown = [money(v, currency) for v in values]
    least, most = money(min(values), currency), money(max(values), currency)
    if least == most:
        text = f"All buildings together pay the same in every arm: {least}."
    else:
        low, high = (
            listing([in_words(a) for a, s in zip(arms, shown, strict=True) if s == end]) for end in (least, most)
        )
        text = f"All buildings together pay least with {low} ({least}) and most with {high} ({most})."
    batteries = [(battery_account(s, s), in_words(a)) for s, a in zip(summaries, arms, strict=True)]
    said = [
        f"{profit_or_loss(v, currency)} with {a}" for v, a in batteries if v is not None and not practically_nothing(v)
    ]
    if said:
        text += f" The community battery is counted in; it makes {listing(said)}."
    return Figure("costs", "What all buildings pay together", text, (Panel("", {"data": [trace], "layout": plan}),))


def distribution(summaries: Sequence[Summary], arms: Sequence[str]) -> Figure:
    """How each building's cost changes against the reference, one box per arm."""
    currency = summaries[0]["run"]["currency"]
    reference = reference_of(summaries)
    colours = _colours(summaries)
    traces: list[Spec] = []
    texts = []
    for i, summary in enumerate(summaries):
        if i == reference:
            continue
        saved = {id_: -change for id_, change in changes(summary, summaries[reference]).items()}
        values = list(saved.values())
        traces.append({
            "type": "box", "name": arms[i], "y": [round(v, 2) for v in values], "text": list(saved), "boxpoints": "all",
            "jitter": 0.5, "pointpos": 0, "marker": {"color": colours[i], "size": 5, "opacity": 0.75},
            "line": {"color": colours[i], "width": 1.5}, "fillcolor": with_alpha(colours[i], 0.15),
            "hovertemplate": f"%{{text}}: %{{y:,.2f}} {currency}<extra>{html(arms[i])}</extra>", "showlegend": False,
        })  # fmt: skip
        lost = sum(v <= -SMALLEST for v in values)
        texts.append((float(np.median(values)) if values else 0.0, arms[i], lost))
    plan = layout(axis("arm", type="category"), axis(f"saved per building [{currency}]", zeroline=True), height=420)
    best = money(max(texts)[0], currency)
    tied = [in_words(arm) for median, arm, _ in texts if money(median, currency) == best]
    text = f"Half of the buildings save {best} or more with {listing(tied)}"
    text += ", the highest median of all arms" if len(texts) > 1 else ""
    losing = [f"{n} with {in_words(arm)}" for _, arm, n in texts if n]
    text += (
        f"; buildings that pay more than with {in_words(arms[reference])}: {listing(losing)}."
        if losing
        else "; none of these buildings pays more."
    )
    return Figure("distribution", f"Savings of every building against {arms[reference]}", text,
                  (Panel("", {"data": traces, "layout": plan}),),
                  note="Each dot is a building (no storage-only ones); the box holds the middle half.")  # fmt: skip


def by_household(static: RunStatic, summaries: Sequence[Summary], arms: Sequence[str]) -> Figure:
    """Mean savings per kind of household and arm, one tab per attribute."""
    id_, title = "households", "Mean savings by kind of household"
    panels = []
    for attribute, kind_of in ATTRIBUTES.items():
        members: dict[str, list[str]] = {}
        for building in static.buildings:
            if not building.community:  # a battery of all is no household
                members.setdefault(kind_of(building), []).append(building.id)
        if set(members) - {NOT_STATED}:
            panels.append(_household_panel(attribute, members, summaries, arms))
    if not panels:
        return absent(id_, title, "The scenario says nothing about the households, so there are no kinds to compare.")
    return Figure(id_, title, panels[0].sentence, tuple(panels), shown="tabs")


def _household_panel(
    attribute: str, members: dict[str, list[str]], summaries: Sequence[Summary], arms: Sequence[str]
) -> Panel:
    currency = summaries[0]["run"]["currency"]
    reference = reference_of(summaries)
    colours = _colours(summaries)
    kinds = sorted(members)
    names = [f"{kind} ({len(members[kind])})" for kind in kinds]
    traces, extremes = [], []
    for i, summary in enumerate(summaries):
        if i == reference:
            continue
        change = changes(summary, summaries[reference])
        means = [-float(np.mean([change.get(m, 0.0) for m in members[kind]])) for kind in kinds]
        hover = f"%{{x}}, {html(arms[i])}: %{{y:,.2f}} {currency}<extra></extra>"
        traces.append(bars(arms[i], names, [round(v, 2) for v in means], colours[i], hovertemplate=hover))
        extremes += [(m, kind, arms[i]) for m, kind in zip(means, kinds, strict=True) if kind != NOT_STATED]
    plan = layout(axis(attribute, type="category"), axis(f"mean savings per building [{currency}]", zeroline=True),
                  barmode="group", height=400)  # fmt: skip
    best, worst = max(extremes), min(extremes)
    text = f"By {attribute}, the highest mean savings are those of {best[1]} with {in_words(best[2])} "
    text += f"({money(best[0], currency)}), "
    text += f"the lowest those of {worst[1]} with {in_words(worst[2])} ({money(worst[0], currency)})."
    if NOT_STATED in members:
        text += f" Of {count(len(members[NOT_STATED]), 'building')} it is not stated."
    return Panel(attribute, {"data": traces, "layout": plan}, text)


def small_multiples(summaries: Sequence[Summary], arms: Sequence[str]) -> Figure:
    """Peaks, supply from inside, losses, carbon: one small drawing each."""
    panels, texts = [], []
    currency = summaries[0]["run"]["currency"]
    for kpi in shown_kpis(summaries):
        if kpi.key not in _UNITS:
            continue
        values = kpi_values(kpi, summaries)
        if not any(values) or level(kpi, values):  # the same everywhere: the table says it
            continue
        unit, factor = _UNITS[kpi.key]
        shown = [None if v is None else round(v * factor, 4) for v in values]
        words = [_in_unit(kpi, v, unit, factor, currency) for v in values]
        trace = bars(kpi.name, list(arms), shown, _colours(summaries), showlegend=False, text=words,
                     textposition="auto",
                     hovertemplate=f"%{{x}}: %{{y:,.4~g}} {unit}<extra></extra>")  # fmt: skip
        y = axis(f"[{unit}]", rangemode="tozero")  # the heading names the figure; the axis is too low for it
        plan = layout(axis("arm", type="category"), y, height=280)
        panels.append(Panel(kpi.name[:1].upper() + kpi.name[1:], {"data": [trace], "layout": plan}))
        best = best_arms(kpi, values)
        if best and len(best) < sum(v is not None for v in values):
            texts.append(f"{kpi.name} ({listing([arms[i] for i in best])})")
    if not panels:
        return absent("grid-figures", "Peaks, local supply, losses and carbon",
                      "The arms do not differ in any of these figures; the table holds them.")  # fmt: skip
    text = f"Best arm: {'; '.join(texts)}." if texts else "The arms do not differ in any of these figures."
    peaks = [k for k in shown_kpis(summaries) if k.key in ("peak", "reverse")]
    if all(level(k, kpi_values(k, summaries)) for k in peaks):
        why = "" if flows_differ(summaries) else ", as are the energy flows: the rules settle energy but do not move it"
        text += f" Peaks are the same in all arms{why}."
    return Figure("grid-figures", "Peaks, local supply, losses and carbon", text, tuple(panels),
                  note="Figures that are the same in every arm stand in the table only. Settlement moves money; peaks "
                       "change only where batteries or cars act otherwise.")  # fmt: skip


def _in_unit(kpi: Kpi, value: float | None, unit: str, factor: float, currency: str) -> str:
    """A bar's label, in the unit of its axis."""
    if value is None:
        return NOTHING
    return f"{number(value * factor)} {unit}" if kpi.key == "local" else kpi.show(value, currency)


def _arms_html(summaries: Sequence[Summary], arms: Sequence[str]) -> str:
    rows = []
    for arm, summary in zip(arms, summaries, strict=True):
        run = summary["run"]
        parameters = settings(run.get("rule_parameters") or {}) or NOTHING
        rows.append([Cell(arm), Cell(label(run["rule"])), Cell(parameters), Cell(run["name"]), Cell(str(run["seed"])),
                     Cell(run["id"][:24])])  # fmt: skip
    heads = ("Arm", "Rule", "Parameters", "Scenario", "Seed", "Run")
    return f'<div class="box">{table_html("The runs compared.", heads, rows, [False] * 6)}</div>'
