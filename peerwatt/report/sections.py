"""The written parts of the report: key figures, violations, notices, and how the run was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from core import MarketError
from peerwatt.report.comparison import members_share
from peerwatt.report.data import ReportData
from peerwatt.report.figures_network import interval_note
from peerwatt.report.page import Card, Cell, cards_html, facts_html, list_html, table_html
from peerwatt.report.text import (
    NOTHING,
    count,
    energy,
    fixed,
    html,
    label,
    mass,
    money,
    number,
    percent,
    plain,
    settings,
)
from peerwatt.report.wording import profit_or_loss

MAX_VIOLATIONS = 50
"""So many of the worst violations are listed."""

MICRO = 1_000_000

_BROKEN = {"over_voltage": "over-voltage", "under_voltage": "under-voltage"}


def header_facts(data: ReportData) -> list[tuple[str, str]]:
    """Names and values below the title: rule, span, network, seed, run id."""
    s = data.static
    facts = [
        ("Market rule", s.rule_words.replace(label(s.rule), label(s.rule) + _parameters(s.rule, s.rule_parameters), 1)),
        ("Span", f"{data.span} ({count(data.grid.n, 'slot')} of {plain(data.grid.length_s / 60)} min)"),
        ("Times", f"local, {s.zone}"),
        ("Buildings", _buildings(data)),
        ("Network", _network(data)),
        ("Currency", s.currency),
        ("Seed", str(s.seed)),
        ("Run", s.run_id if len(s.run_id) <= 40 else s.run_id[:40] + "…"),
    ]
    return [(name, value) for name, value in facts if value]


def _parameters(rule: str, parameters: Mapping[str, object]) -> str:
    """Parameters that are not the rule's defaults; all of them stand in "How it was made"."""
    usual = _defaults(rule)
    chosen = {name: value for name, value in parameters.items() if str(value) != usual.get(name)}
    return f" ({settings(chosen)})" if chosen else ""


def _defaults(rule: str) -> dict[str, str]:
    """A rule's default parameters as text; empty for a rule that is not registered."""
    from market.registry import rule_class

    try:
        found = rule_class(rule)
    except MarketError:
        return {}
    return {f.name: str(f.default) for f in dataclasses.fields(found)}  # type: ignore[arg-type]


def _buildings(data: ReportData) -> str:
    homes = data.static.buildings
    parts = []
    for words, n in (
        ("PV", sum(b.pv_kw > 0 for b in homes)),
        ("battery", sum(b.battery_kwh > 0 for b in homes)),
        ("EV", sum(b.ev for b in homes)),
        ("heat pump", sum(b.heat_pump for b in homes)),
    ):
        if n:
            parts.append(f"{n} with {words}")
    return f"{len(homes)}{': ' if parts else ''}{', '.join(parts)}"


def _network(data: ReportData) -> str:
    s = data.static
    if not s.buses:
        return "none"
    lines = sum(b.kind == "line" for b in s.branches)
    text = f"{count(len(s.buses), 'bus', 'buses')}, {count(lines, 'line')}, "
    text += count(len(s.branches) - lines, "transformer")
    text += ", balanced network" if s.phases == 1 else ", solved phase by phase"
    return text if data.voltage is not None else f"{text} (no power flow)"


def lead(data: ReportData) -> str:
    """What the page shows, in two sentences."""
    s = data.static
    what = count(len(s.buildings), "building")
    how = "without a market" if s.rule == "no_market" else f"trading under the rule {s.rule_words}"
    text = f"{what} {how}, {data.span}."
    savings = data.summary["money"]["savings"]
    if s.rule == "no_market":
        return f"{text} Every other run of this district is compared with this one."
    if not data.summary["energy"]["local_kwh"]:
        return f"{text} Nothing was traded."
    verb = "saved" if savings >= 0 else "lost"
    store = data.summary["money"]["community_storage_u"]
    counted = (
        ""
        if store is None
        else f", with {profit_or_loss(store / MICRO, s.currency)} of the community battery counted in"
    )
    return f"{text} Together they {verb} {money(abs(savings), s.currency)} against no market{counted}."


def key_figures(data: ReportData) -> str:
    """The cards at the top."""
    return cards_html([*_energy_cards(data), *_money_cards(data), *_grid_cards(data)])


def _energy_cards(data: ReportData) -> list[Card]:
    e, own = data.summary["energy"], data.summary["self_supply"]
    used = (e["load_kwh"] + e["heat_pump_kwh"] + e["ev_kwh"]) * 1000
    cards = [
        Card("Used by the buildings", energy(used), f"{energy(used / max(data.n_days, 1))} a day"),
        Card("Made by PV", energy(e["pv_kwh"] * 1000),
             f"{energy(e['curtailed_kwh'] * 1000)} curtailed" if e["curtailed_kwh"] else ""),
        Card("Traded inside the district", energy(e["local_kwh"] * 1000),
             members_share(data.summary)),
    ]  # fmt: skip
    for key, name in (("self_consumption", "Self-consumption"), ("self_sufficiency", "Self-sufficiency")):
        net = own[f"net_{key}"]
        if net is None:
            reason = data.summary["undefined"].get(f"self_supply.net_{key}", "")
            cards.append(Card(name, NOTHING, reason))
            continue
        more = f"each building alone: {percent(own[f'alone_net_{key}'])}"
        if e["charge_kwh"] or e["discharge_kwh"]:
            more += f"; with charging counted as use: {percent(own[f'shared_{key}'])}"
        cards.append(Card(f"{name} of the district", percent(net), more))
    return cards


def _money_cards(data: ReportData) -> list[Card]:
    m, s, p = data.summary["money"], data.summary["savings"], data.summary["prices"]
    unit = data.currency
    cards = [Card("Paid by all buildings", money(m["cost_u"] / MICRO, unit),
                  f"without a market {money(m['baseline_u'] / MICRO, unit)}")]  # fmt: skip
    if data.static.rule == "no_market":
        return cards
    lost, n = s["negative"], s["counted_buildings"]
    who = f"{lost} of {count(n, 'building')} pay{'s' if lost == 1 else ''} more" if lost else (
        f"none of {count(n, 'building')} pays more")  # fmt: skip
    if m["community_storage_u"] is None:
        cards.append(Card("Saved against no market", money(m["savings"], unit), who))
    else:
        store = m["community_storage_u"] / MICRO
        cards.append(Card("Saved by the buildings", money(m["members_savings_u"] / MICRO, unit), who))
        cards.append(Card(f"{'Loss' if store < 0 else 'Profit'} of the community battery", money(abs(store), unit),
                          "against standing idle without a market; not in the buildings' savings"))  # fmt: skip
        cards.append(Card("Saved in the whole district", money(m["savings"], unit), "all accounts, battery included"))
    if m["operator_surplus_u"]:
        surplus = m["operator_surplus_u"] / MICRO
        cards.append(Card(f"{'Surplus' if surplus > 0 else 'Deficit'} of the operator", money(abs(surplus), unit),
                          "what the rule leaves between buyers and sellers" if surplus > 0 else
                          "what somebody must add between buyers and sellers"))  # fmt: skip
    mean = p["volume_weighted_mean_per_kwh"]
    more = "" if mean is None else f"{number(p['lowest_per_kwh'])} to {number(p['highest_per_kwh'])}"
    why = data.summary["undefined"].get("prices.volume_weighted_mean_per_kwh", "")
    value = NOTHING if mean is None else f"{number(mean)} {data.price_unit}"
    cards.append(Card("Mean price, by energy", value, more or why))
    gini = s["gini"]
    if gini is None:
        cards.append(Card("Gini of savings", NOTHING, data.summary["undefined"].get("savings.gini", "")))
    else:
        jain = f"; Jain {fixed(s['jain'], 2)}" if s["jain"] is not None else ""
        cards.append(Card("Gini of savings", fixed(gini, 2), f"0 = equal{jain}"))
    return cards


def _grid_cards(data: ReportData) -> list[Card]:
    g, v, c = data.summary["grid"], data.summary["violations"], data.summary["carbon"]
    cards = [
        Card("Highest draw", f"{number(g['peak_import_kw'])} kW", "from the grid above, slot mean"),
        Card("Highest reverse flow", f"{number(g['peak_reverse_kw'])} kW",
             f"{energy(g['reverse_kwh'] * 1000)} fed back in all"),
    ]  # fmt: skip
    if data.voltage is not None:
        cards.append(
            Card("Network losses", energy(g["losses_kwh"] * 1000), f"{percent(g['losses_share'], 2)} of imports")
        )
        cards.append(Card("Voltage", f"{fixed(g['v_min_pu'], 3)}–{fixed(g['v_max_pu'], 3)} p.u.",
                          f"lowest to highest bus{' and phase' if data.phases else ''}, slot means"))  # fmt: skip
    if data.phases is not None:
        cards.append(Card("Highest unbalance", percent(g["max_unbalance"], 2),
                          f"neutral up to {percent(g['max_neutral_loading'], 0)} of a phase's rating"))  # fmt: skip
    loads = [g[k] for k in ("max_line_loading", "max_transformer_loading") if g[k] is not None]
    if loads:
        words = " / ".join(
            f"{name} {percent(g[k], 0)}"
            for name, k in (("lines", "max_line_loading"), ("transformer", "max_transformer_loading"))
            if g[k] is not None
        )
        cards.append(Card("Highest loading", percent(max(loads), 0), words))
    if v["checked"]:
        slots = (
            f"in {count(v['slots'], 'slot')} ({percent(v['share_of_slots'])})"
            if v["slots"]
            else "limits kept in every slot"
        )
        cards.append(Card("Limit violations", f"{v['count']:,}", slots))
    if c["imports_kg"] is not None:
        cards.append(Card("CO₂ of the grid's supply", mass(c["imports_kg"]),
                          f"{mass(c['avoided_by_pv_kg'])} avoided: PV that stayed inside, losses included, "
                          "at the intensity of its slot"))  # fmt: skip
    return cards


def violations_html(data: ReportData) -> str:
    """The worst violations as a table, or why there are none."""
    v = data.summary["violations"]
    if not v["checked"]:
        return '<div class="box"><p class="missing">Without a power flow no limits were checked.</p></div>'
    if not v["count"]:
        by_phase = "" if data.phases is None else ", in any phase; unbalance stayed below 2 %"
        return (
            '<div class="box"><p class="says">No bus left its voltage limits and no line or transformer exceeded its '
            f'rating in any slot{by_phase}.</p><p class="note">{html(interval_note(data))}</p></div>'
        )
    by_kind = [count(k["count"], _BROKEN.get(name, label(name))) for name, k in v["by_kind"].items() if k["count"]]
    text = f"{count(v['count'], 'violation')} in {count(v['slots'], 'slot')}: {', '.join(by_kind)}."
    if not data.violations:
        return f'<div class="box"><p class="says">{html(text)} The run kept no table of them.</p></div>'
    shown = len(data.violations)
    text += f" The {shown} largest by excess over the limit are listed." if shown < v["count"] else ""
    rows = [_violation_row(data, item) for item in data.violations]
    heads = ("Element", "What", "Local time", "Value", "Limit", "Excess", "Largest net injections or draws in the slot")
    table = table_html("Sort by a click on a heading.", heads, rows, (False, False, False, True, True, True, False))
    return (
        f'<div class="box"><p class="says">{html(text)}</p>{table}<p class="note">{html(interval_note(data))} '
        "Who drew or injected most is a fact of the slot, not a sensitivity.</p></div>"
    )


def _violation_row(data: ReportData, item: Mapping[str, Any]) -> list[Cell]:
    voltage = str(item["kind"]).endswith("voltage")
    of_bus = voltage or item["kind"] == "unbalance"

    def size(value: float) -> str:
        return f"{fixed(value, 4)} p.u." if voltage else percent(value)

    names = (
        {b.id: b.name for b in data.static.buses if b.name} if of_bus else {b.id: b.name for b in data.static.branches}
    )
    id_ = str(item["element"])
    name = names.get(id_) or id_
    slot = int(item["slot"])
    stamp = data.grid.start_of(slot).isoformat()
    value, limit, excess = (float(item[key]) for key in ("value", "limit", "excess"))
    return [
        Cell(name if name == id_ else f"{name} ({id_})"),
        Cell(_BROKEN.get(str(item["kind"]), label(str(item["kind"])))),
        Cell(data.when(slot), float(slot), f'<time datetime="{stamp}">{html(data.when(slot))}</time>'),
        Cell(size(value), value), Cell(size(limit), limit), Cell(size(excess), excess),
        Cell(str(item["contributors"]) or NOTHING),
    ]  # fmt: skip


def notices_html(data: ReportData) -> str:
    """Remarks a reader must know, and the attribution that the data's licences ask for."""
    notes = [str(n) for n in data.summary["notes"]]
    reasons: dict[str, list[str]] = {}
    for key, why in data.summary["undefined"].items():
        reasons.setdefault(str(why), []).append(label(key.rpartition(".")[2]).removesuffix(" per kwh"))
    notes += [f"Undefined because {why}: {', '.join(keys)}." for why, keys in reasons.items()]
    parts = [f'<div class="box"><h3>Remarks</h3>{list_html(notes)}</div>'] if notes else []
    if data.static.notices:
        body = list_html([n.strip() for n in data.static.notices])
    else:
        body = '<p class="missing">The run used no data that asks for attribution.</p>'
    parts.append(f'<div class="box"><h3>Data used</h3>{body}</div>')
    return "".join(parts)


def making_html(data: ReportData) -> str:
    """Settings, versions, run id, and the commands that make the run again."""
    versions = ", ".join(f"{name} {v}" for name, v in data.manifest.get("versions", {}).items())
    facts = [
        ("Run", data.static.run_id),
        ("Scenario", data.static.name),
        ("Seed", str(data.static.seed)),
        ("First slot starts", f"{data.when(0)} local ({data.grid.start.isoformat()})" if data.grid.n else NOTHING),
        ("Rule parameters", settings(data.static.rule_parameters) or "none"),
        ("Costs taken from", str(data.summary["money"]["costs_from"])),
    ]
    parts = [f'<div class="box"><h3>Settings</h3>{facts_html(facts)}</div>']
    commands = "peerwatt verify .                         # hashes and ledger sums of this folder\n"
    commands += "peerwatt run scenario.yaml --out ../again # the same bytes in every table"
    parts.append(
        '<div class="box"><h3>How to reproduce</h3><p>In the run folder, beside this page, lies the resolved scenario. '
        "The same scenario and seed give the same tables, byte for byte.</p>"
        f"<pre><code>{html(commands)}</code></pre>"
        '<p>Tables are folders of Parquet files: <code>pandas.read_parquet("slots.parquet")</code> reads one; '
        "<code>schemas/</code> says what every column means.</p></div>"
    )
    text = ""
    if versions:
        text += f"<h3>Versions</h3><p>{html(versions)}</p>"
    if data.scenario.strip():
        text += (
            f"<details><summary>The resolved scenario</summary><pre><code>{html(data.scenario)}</code></pre></details>"
        )
    if text:
        parts.append(f'<div class="box">{text}</div>')
    return "".join(parts)
