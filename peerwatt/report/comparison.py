"""Compares runs of one district under several rules: which arm is best at what, said openly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core import RunError
from peerwatt.report.text import MINUS, NOTHING, count, fixed, label, listing, money, number, percent

Summary = Mapping[str, Any]

MICRO = 1_000_000
_NEGLIGIBLE = 5e-4  # of a saving: roundings of the ledger are not worth a word


@dataclass(frozen=True, slots=True)
class Kpi:
    """A key figure that arms are compared by.

    ``better`` says which way is good; ``value`` takes a run's summary and the reference's; ``show`` words a value with
    its unit.
    """

    key: str
    name: str
    better: Literal["low", "high"]
    value: Callable[[Summary, Summary], float | None]
    show: Callable[[float, str], str]


def _cost(run: Summary, _: Summary) -> float | None:
    return float(run["money"]["cost_u"]) / MICRO


def changes(run: Summary, reference: Summary) -> dict[str, float]:
    """What each building pays more than in ``reference`` [currency]; negative = it gains."""
    before = reference["buildings"]
    return {
        id_: (row["cost_u"] - before[id_]["cost_u"]) / MICRO for id_, row in run["buildings"].items() if id_ in before
    }


def _losers(run: Summary, reference: Summary) -> float | None:
    if run is reference:
        return None
    return float(sum(change > 0 for change in changes(run, reference).values()))


def _worst(run: Summary, reference: Summary) -> float | None:
    return None if run is reference else max(changes(run, reference).values(), default=0.0)


def _inside(run: Summary, _: Summary) -> float | None:
    demand = run["self_supply"]["demand_kwh"]
    return None if not demand else (run["self_supply"]["alone_kwh"] + run["energy"]["local_kwh"]) / demand


def _at(*path: str) -> Callable[[Summary, Summary], float | None]:
    def value(run: Summary, _: Summary) -> float | None:
        found: Any = run
        for key in path:
            found = found[key]
        return None if found is None else float(found)

    return value


def _with(unit: str) -> Callable[[float, str], str]:
    return lambda value, _: f"{number(value)} {unit}"


KPIS: tuple[Kpi, ...] = (
    Kpi("cost", "total cost of all buildings", "low", _cost, money),
    Kpi("losers", "number of buildings that pay more", "low", _losers, lambda v, _: f"{int(v)}"),
    Kpi("worst", "cost change of the worst-off building", "low", _worst, lambda v, c: money(v, c, signed=True)),
    Kpi("local", "energy traded inside the district", "high", _at("energy", "local_kwh"), _with("kWh")),
    Kpi("inside", "share of use met from inside", "high", _inside, lambda v, _: percent(v)),
    Kpi("peak", "highest draw from the grid above", "low", _at("grid", "peak_import_kw"), _with("kW")),
    Kpi("reverse", "highest reverse flow", "low", _at("grid", "peak_reverse_kw"), _with("kW")),
    Kpi("losses", "network losses", "low", _at("grid", "losses_kwh"), _with("kWh")),
    Kpi("violations", "limit violations", "low", _at("violations", "count"), lambda v, _: f"{int(v):,}"),
    Kpi("carbon", "CO₂ of the grid's supply", "low", _at("carbon", "imports_kg"), _with("kg")),
    Kpi("gini", "Gini of savings", "low", _at("savings", "gini"), lambda v, _: fixed(v, 3)),
)
"""What arms are compared by, in the order of the table."""


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


def check_same_district(summaries: Sequence[Summary]) -> None:
    """Refuse to compare what cannot be compared.

    Raises
    ------
    RunError
        With the first difference in buildings, span, slot length or currency, or if there are fewer than two runs.
    """
    if len(summaries) < 2:
        raise RunError("a comparison needs at least two runs")
    first = summaries[0]
    for other in summaries[1:]:
        for key, words in (("currency", "currency"), ("start_utc", "first slot"), ("slot_s", "slot length"),
                           ("n_slots", "number of slots")):  # fmt: skip
            a, b = first["run"][key], other["run"][key]
            if a != b:
                raise RunError(
                    f"{first['run']['name']} and {other['run']['name']} differ in {words}: {a} and {b}",
                    remedy="compare runs of the same district and span",
                )
        if set(first["buildings"]) != set(other["buildings"]):
            raise RunError(
                f"{first['run']['name']} and {other['run']['name']} have different buildings",
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
    return not same(kpi, a, b) and ((a < b) if kpi.better == "low" else (a > b))


def best_arms(kpi: Kpi, values: Sequence[float | None]) -> list[int]:
    """Positions of the arms that no other beats; empty when fewer than two have a value."""
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return []
    return [i for i, v in enumerate(values) if v is not None and not any(beats(kpi, w, v) for w in known)]


def difference(key: str, change: float, currency: str) -> str:
    """A difference of a key figure with its sign; shares in percentage points."""
    if key == "inside":
        text = f"{fixed(abs(change) * 100, 1)} points"
    elif key in ("cost", "worst"):
        text = money(abs(change), currency)
    else:
        text = next(k for k in KPIS if k.key == key).show(abs(change), currency)
    return f"{'+' if change > 0 else MINUS}{text}"


def comparison_findings(summaries: Sequence[Summary], names: Sequence[str] | None = None) -> list[str]:
    """Plain sentences about runs of the same district under different rules.

    First what each arm saves against no market and who pays for it, then for every trading arm where it does not beat
    each low-tech arm (no market, another tariff, a static key), then which arm is best at what.

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
    check_same_district(summaries)
    arms = list(names or arm_names(summaries))
    low_tech = [i for i, s in enumerate(summaries) if is_low_tech(s)]
    findings = _cost_findings(summaries, arms)
    for i in range(len(summaries)):
        if i not in low_tech:
            findings += [_against(summaries, arms, i, j) for j in low_tech]
    return findings + _best_findings(summaries, arms)


def _cost_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    reference = reference_of(summaries)
    base = summaries[reference]
    currency = base["run"]["currency"]
    found = []
    for i, summary in enumerate(summaries):
        if i == reference:
            continue
        saved = (base["money"]["cost_u"] - summary["money"]["cost_u"]) / MICRO
        if saved == 0:
            found.append(
                f"With {in_words(arms[i])} all buildings together pay exactly what they pay with "
                f"{in_words(arms[reference])}."
            )
            continue
        share = f" ({percent(abs(saved) * MICRO / abs(base['money']['cost_u']))})" if base["money"]["cost_u"] else ""
        losers = int(_losers(summary, base) or 0)
        text = f"With {in_words(arms[i])} all buildings together pay {money(abs(saved), currency)}{share} "
        text += f"{'less' if saved > 0 else 'more'} than with {in_words(arms[reference])}"
        text += f"; {count(losers, 'building pays', 'buildings pay')} more" if losers else "; no building pays more"
        found.append(text + _who_pays(summary, base, currency) + ".")
    return found


def _who_pays(summary: Summary, base: Summary, currency: str) -> str:
    """Where savings come from: other accounts that receive less."""
    parts = []
    for account in ("retailer", "network", "state", "operator"):
        both = [s["money"]["accounts"].get(account, {}).get("total_u", 0) for s in (summary, base)]
        change = (both[0] - both[1]) / MICRO
        if abs(change) * MICRO > _NEGLIGIBLE * abs(base["money"]["cost_u"] - summary["money"]["cost_u"]):
            parts.append(f"the {account} receives {money(abs(change), currency)} {'more' if change > 0 else 'less'}")
    return f"; in return {listing(parts)}" if parts else ""


def _against(summaries: Sequence[Summary], arms: Sequence[str], i: int, j: int) -> str:
    """Where trading arm i beats low-tech arm j and where not; what no arm changes is left to the last sentence."""
    currency = summaries[i]["run"]["currency"]
    won: list[str] = []
    equal: list[str] = []
    lost: list[str] = []
    for kpi in KPIS:
        values = kpi_values(kpi, summaries)
        a, b = values[i], values[j]
        if a is None or b is None or _level(kpi, values):
            continue
        if same(kpi, a, b):
            equal.append(kpi.name)
        else:
            better = beats(kpi, a, b)
            figures = "" if better else f" ({kpi.show(a, currency)} against {kpi.show(b, currency)})"
            (won if better else lost).append(kpi.name + figures)
    arm, other = sentence_start(in_words(arms[i])), in_words(arms[j])
    if won and not equal and not lost:
        return f"{arm} beats {other} in every figure in which the arms differ: {listing(won)}."
    where = [f"it is worse in {listing(lost)}"] if lost else []
    where += [f"there is no difference in {listing(equal)}"] if equal else []
    if not won:
        text = f"{arm} does not beat {other} in any figure compared"
        return f"{text}: {'; '.join(where)}." if where else f"{text}."
    missed = len(lost) + len(equal)
    text = f"{arm} does not beat {other} in {count(missed, 'figure')} of {missed + len(won)}"
    return f"{text}: {'; '.join(where)}. It is better in {listing(won)}."


def _level(kpi: Kpi, values: Sequence[float | None]) -> bool:
    """Whether a figure is the same in every arm that has it."""
    known = [value for value in values if value is not None]
    return all(same(kpi, known[0], value) for value in known)


def in_words(arm: str) -> str:
    """An arm's name inside a sentence: keys and tariffs take an article."""
    return f"the {arm}" if arm.partition(" (")[0].endswith((" key", " tariff")) else arm


def sentence_start(text: str) -> str:
    """``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]


def _best_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    currency = summaries[0]["run"]["currency"]
    by_arm: dict[str, list[str]] = {}
    level = []
    for kpi in KPIS:
        values = kpi_values(kpi, summaries)
        best = best_arms(kpi, values)
        if best and _level(kpi, values):
            level.append(kpi.name)
        elif best:
            value = values[best[0]]
            words = kpi.show(value, currency) if value is not None else NOTHING
            by_arm.setdefault(listing([arms[i] for i in best]), []).append(f"{kpi.name} ({words})")
    found = [f"Best at {listing(items)}: {arm}." for arm, items in by_arm.items()]
    if level:
        found.append(f"No difference between the arms in {listing(level)}.")
    return found
