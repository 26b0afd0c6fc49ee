"""Compares runs of one district under several rules: which arm is best at what, said openly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core import RunError
from peerwatt.report.text import MINUS, energy, fixed, label, money, number, percent

Summary = Mapping[str, Any]

MICRO = 1_000_000
SMALLEST = 0.005
"""An amount of money below this shows as 0.00 [currency]."""


@dataclass(frozen=True, slots=True)
class Kpi:
    """A key figure that arms are compared by.

    ``better`` says which way is good, ``none`` that neither is; ``value`` takes a run's summary and the reference's;
    ``show`` words a value with its unit; ``hint`` says what a reader of the table must know.
    """

    key: str
    name: str
    better: Literal["low", "high", "none"]
    value: Callable[[Summary, Summary], float | None]
    show: Callable[[float, str], str]
    hint: str = ""


def _cost(run: Summary, _: Summary) -> float | None:
    return float(run["money"]["cost_u"]) / MICRO


def changes(run: Summary, reference: Summary) -> dict[str, float]:
    """What each building pays more than in ``reference`` [currency]; negative = it gains.

    Buildings are those whose savings count: members in one of the runs, without those that are storage only.
    """
    before = reference["buildings"]
    return {
        id_: (row["cost_u"] - before[id_]["cost_u"]) / MICRO
        for id_, row in run["buildings"].items()
        if id_ in before and (row.get("counted", True) or before[id_].get("counted", True))
    }


def battery_account(run: Summary, _: Summary) -> float | None:
    """Profit (+) or loss (-) of the community battery against no market [currency]; None without one."""
    amount = run["money"].get("community_storage_u")
    return None if amount is None else float(amount) / MICRO


def _operator(run: Summary, _: Summary) -> float | None:
    return float(run["money"]["accounts"].get("operator", {}).get("total_u", 0)) / MICRO


def _losers(run: Summary, reference: Summary) -> float | None:
    if run is reference:
        return None
    return float(sum(change >= SMALLEST for change in changes(run, reference).values()))


def _net(run: Summary, _: Summary) -> float | None:
    value = run["self_supply"].get("net_self_sufficiency")
    return None if value is None else float(value)


def _worst(run: Summary, reference: Summary) -> float | None:
    return None if run is reference else max(changes(run, reference).values(), default=0.0)


def members_bought_kwh(run: Summary) -> float:
    """Energy that members bought inside the district [kWh], without what a storage-only building bought to sell on."""
    return sum(float(row["bought_kwh"]) for row in run["buildings"].values() if row.get("counted", True))


def members_share(run: Summary) -> str:
    """What members bought inside as a share of use, in words; the energy too where storage bought some of the rest."""
    e = run["energy"]
    use, bought = e["load_kwh"] + e["heat_pump_kwh"] + e["ev_kwh"], members_bought_kwh(run)
    if not use or not e["local_kwh"]:
        return ""
    share = f"{percent(bought / use)} of use"
    whole = energy(bought * 1000) == energy(e["local_kwh"] * 1000)
    return share if whole else f"{energy(bought * 1000)} of it by members, {share}"


def _inside(run: Summary, _: Summary) -> float | None:
    use, alone = (run["self_supply"].get(key) for key in ("use_kwh", "alone_net_self_sufficiency"))
    return None if alone is None or not use else float(alone + members_bought_kwh(run) / use)


def _at(*path: str) -> Callable[[Summary, Summary], float | None]:
    def value(run: Summary, _: Summary) -> float | None:
        found: Any = run
        for key in path:
            found = found[key]
        return None if found is None else float(found)

    return value


def _with(unit: str) -> Callable[[float, str], str]:
    return lambda value, _: f"{number(value)} {unit}"


def _supply(key: str) -> Callable[[Summary, Summary], float | None]:
    """A figure of reliability; of runs without outages there is none."""

    def value(run: Summary, _: Summary) -> float | None:
        found = run.get("reliability", {}).get(key)
        return None if found is None else float(found)

    return value


KPIS: tuple[Kpi, ...] = (
    Kpi("cost", "total cost of all buildings", "low", _cost, money),
    Kpi("losers", "number of buildings that pay more", "low", _losers, lambda v, _: f"{int(v)}"),
    Kpi("worst", "cost change of the worst-off building", "low", _worst, lambda v, c: money(v, c, signed=True)),
    Kpi("battery", "profit or loss of the community battery", "none", battery_account,
        lambda v, c: money(v, c, signed=True), f"+ profit, {MINUS} loss, against standing idle"),
    Kpi("operator", "account of the operator", "none", _operator, lambda v, c: money(v, c, signed=True),
        f"+ surplus, {MINUS} deficit"),
    Kpi("local", "energy traded inside the district", "high", _at("energy", "local_kwh"), _with("kWh"),
        "purchases of storage counted too"),
    Kpi("net", "self-sufficiency of the district", "high", _net, lambda v, _: percent(v), "whoever trades"),
    Kpi("inside", "share of use met from inside", "high", _inside, lambda v, _: percent(v),
        "from the own roof or bought by members inside"),
    Kpi("peak", "highest draw from the grid above", "low", _at("grid", "peak_import_kw"), _with("kW")),
    Kpi("reverse", "highest reverse flow", "low", _at("grid", "peak_reverse_kw"), _with("kW")),
    Kpi("losses", "network losses", "low", _at("grid", "losses_kwh"), _with("kWh")),
    Kpi("violations", "limit violations", "low", _at("violations", "count"), lambda v, _: f"{int(v):,}"),
    Kpi("carbon", "CO₂ of the grid's supply", "low", _at("carbon", "imports_kg"), _with("kg")),
    Kpi("saidi", "time without supply (SAIDI)", "low", _supply("saidi_minutes"), _with("min"), "of each customer"),
    Kpi("saifi", "interruptions (SAIFI)", "low", _supply("saifi"), lambda v, _: number(v), "of each customer"),
    Kpi("caidi", "length of an interruption (CAIDI)", "none", _supply("caidi_minutes"), _with("min"), "SAIDI / SAIFI"),
    Kpi("unserved", "load not supplied", "low", _supply("unserved_kwh"), _with("kWh"), "cars and heating left out"),
    Kpi("gini", "Gini of savings", "low", _at("savings", "gini"), lambda v, _: fixed(v, 3)),
)  # fmt: skip
"""What arms are compared by, in the order of the table."""

PHYSICAL = ("net", "peak", "reverse", "losses", "violations", "carbon", "saidi", "saifi", "unserved")
"""Figures of energy and network, which a rule that only settles does not change."""


def shown_kpis(summaries: Sequence[Summary]) -> list[Kpi]:
    """The figures that these runs have: no network words without a network, no accounts that are always zero."""
    found = []
    network = any(s["run"].get("n_buses", 1) for s in summaries)
    for kpi in KPIS:
        values = kpi_values(kpi, summaries)
        if all(v is None for v in values) or (kpi.key in ("losses", "violations") and not network):
            continue
        if kpi.key in ("battery", "operator") and not any(abs(v or 0.0) >= SMALLEST for v in values):
            continue
        found.append(kpi)
    return found


def moved_by_no_rule(summaries: Sequence[Summary]) -> list[Kpi]:
    """The physical figures that are the same in all arms with a market, if there are two of these or more."""
    with_market = [i for i, s in enumerate(summaries) if s["run"]["rule"] != "no_market"]
    found = []
    for kpi in shown_kpis(summaries):
        values = kpi_values(kpi, summaries)
        several = len(with_market) > 1 and level(kpi, [values[i] for i in with_market])
        if kpi.key in PHYSICAL and (several or level(kpi, values)):
            found.append(kpi)
    return found


def only_money(summaries: Sequence[Summary]) -> bool:
    """Whether energy flows, peaks, losses and violations do not depend on the rule."""
    return len(moved_by_no_rule(summaries)) == sum(k.key in PHYSICAL for k in shown_kpis(summaries))


def arm_names(summaries: Sequence[Summary]) -> list[str]:
    """A name for each run that tells the arms apart: its rule, with the scenario's name where rules repeat."""
    names = [_rule_name(s["run"]) for s in summaries]
    return [n if names.count(n) == 1 else f"{n} ({s['run']['name']})" for n, s in zip(names, summaries, strict=True)]


def _rule_name(run: Mapping[str, Any]) -> str:
    parameters = run.get("rule_parameters") or {}
    if run["rule"] == "sharing_keys":
        return f"{label(str(parameters.get('key', 'pro_rata')))} key"
    if run["rule"] == "no_market" and _time_of_use(run):
        return "time-of-use tariff"
    return label(str(run["rule"]))


def _time_of_use(run: Mapping[str, Any]) -> bool:
    words = f"{run['name']} {run.get('title', '')}".lower().replace("_", "-").replace(" ", "-")
    return "time-of-use" in words or "tou" in words.split("-")


def is_low_tech(summary: Summary) -> bool:
    """Whether an arm needs no market: nobody trades, or a fixed key shares."""
    run = summary["run"]
    return run["rule"] == "no_market" or (
        run["rule"] == "sharing_keys" and (run.get("rule_parameters") or {}).get("key") == "static"
    )


def reference_of(summaries: Sequence[Summary]) -> int:
    """Position of the arm all others are measured against: the first without a market and without another tariff.

    Raises
    ------
    RunError
        If there is none.
    """
    without = [i for i, s in enumerate(summaries) if s["run"]["rule"] == "no_market"]
    plain = [i for i in without if not _time_of_use(summaries[i]["run"])]
    if not without:
        raise RunError("no run without a market to compare with", remedy="add an arm with the rule no_market")
    return (plain or without)[0]


def check_same_district(summaries: Sequence[Summary], labels: Sequence[str] | None = None) -> None:
    """Refuse to compare what cannot be compared; ``labels`` name the runs (their folders), default: name and run id.

    Raises
    ------
    RunError
        With the first difference in buildings, span, slot length or currency, or if there are fewer than two runs.
    """
    if len(summaries) < 2:
        raise RunError("a comparison needs at least two runs")
    first = summaries[0]
    called = list(labels or (f"{s['run']['name']} (run {s['run']['id'][:24]})" for s in summaries))
    for other, name in zip(summaries[1:], called[1:], strict=True):
        for key, words in (("currency", "currency"), ("start_utc", "first slot"), ("slot_s", "slot length"),
                           ("n_slots", "number of slots")):  # fmt: skip
            a, b = first["run"][key], other["run"][key]
            if a != b:
                raise RunError(
                    f"{called[0]} and {name} differ in {words}: {a} and {b}",
                    remedy="compare runs of the same district and span",
                )
        if set(first["buildings"]) != set(other["buildings"]):
            raise RunError(
                f"{called[0]} and {name} have different buildings",
                remedy="compare runs of the same district and span",
            )


def kpi_values(kpi: Kpi, summaries: Sequence[Summary]) -> list[float | None]:
    """A key figure of every run, ``None`` where it is undefined."""
    reference = summaries[reference_of(summaries)]
    return [kpi.value(s, reference) for s in summaries]


def same(kpi: Kpi, a: float, b: float) -> bool:
    """Whether two values of a key figure read the same: what a reader cannot tell apart is no advantage."""
    return kpi.show(a, "") == kpi.show(b, "")


def beats(kpi: Kpi, a: float, b: float) -> bool:
    """Whether ``a`` is clearly better than ``b``."""
    return kpi.better != "none" and not same(kpi, a, b) and ((a < b) if kpi.better == "low" else (a > b))


def best_arms(kpi: Kpi, values: Sequence[float | None]) -> list[int]:
    """Positions of the arms that no other beats; empty when fewer than two have a value."""
    known = [v for v in values if v is not None]
    if len(known) < 2 or kpi.better == "none":
        return []
    return [i for i, v in enumerate(values) if v is not None and not any(beats(kpi, w, v) for w in known)]


def difference(key: str, change: float, currency: str) -> str:
    """A difference of a key figure with its sign; shares in percentage points."""
    if key in ("inside", "net"):
        text = f"{fixed(abs(change) * 100, 1)} points"
    elif key in ("cost", "worst", "battery", "operator"):
        text = money(abs(change), currency)
    else:
        text = next(k for k in KPIS if k.key == key).show(abs(change), currency)
    return f"{'+' if change > 0 else MINUS}{text}"


def comparison_findings(summaries: Sequence[Summary], names: Sequence[str] | None = None) -> list[str]:
    """Plain sentences about runs of the same district under different rules.

    Whether the rules move anything but money, how long customers were without supply in outages, what each arm saves
    against no market and who pays for it, then for every trading arm where it does not beat the low-tech arms (no
    market, another tariff, a static key), then which arm is best at what.

    Parameters
    ----------
    summaries
        ``summary.json`` of each run; one of them without a market.
    names
        Names of the arms; default: :func:`arm_names`.

    Raises
    ------
    RunError
        If the runs are not of one district and span, or none is without a market.
    """
    from peerwatt.report.findings import (
        against_low_tech,
        best_findings,
        cost_findings,
        physical_findings,
        supply_findings,
    )

    check_same_district(summaries)
    arms = list(names or arm_names(summaries))
    trading = [i for i, s in enumerate(summaries) if not is_low_tech(s)]
    findings = [*physical_findings(summaries, arms), *supply_findings(summaries, arms)]
    findings += cost_findings(summaries, arms)
    findings += [against_low_tech(summaries, arms, i) for i in trading]
    return findings + best_findings(summaries, arms)


def comparison_document(summaries: Sequence[Summary], arms: Sequence[str], findings: Sequence[str]) -> dict[str, Any]:
    """The table and the sentences as JSON: every figure of every arm, unrounded; None where it is undefined."""
    return {
        "arms": list(arms),
        "reference": arms[reference_of(summaries)],
        "currency": summaries[0]["run"]["currency"],
        "figures": [
            {
                "key": kpi.key,
                "name": kpi.name,
                "better": kpi.better,
                "values": dict(zip(arms, kpi_values(kpi, summaries), strict=True)),
            }
            for kpi in shown_kpis(summaries)
        ],
        "findings": list(findings),
    }


def level(kpi: Kpi, values: Sequence[float | None]) -> bool:
    """Whether a figure is the same in every arm that has it."""
    known = [value for value in values if value is not None]
    return not known or all(same(kpi, known[0], value) for value in known)


def in_words(arm: str) -> str:
    """An arm's name inside a sentence: keys and tariffs take an article."""
    return f"the {arm}" if arm.partition(" (")[0].endswith((" key", " tariff")) else arm


def flows_differ(summaries: Sequence[Summary]) -> bool:
    """Whether meters or batteries moved other energy in one run than in another."""
    keys = ("import_kwh", "export_kwh", "charge_kwh", "discharge_kwh")
    return len({tuple(s["energy"].get(key) for key in keys) for s in summaries}) > 1
