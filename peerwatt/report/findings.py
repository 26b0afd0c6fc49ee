"""What a comparison says in sentences: what is saved and who pays, where a rule fails against low tech, who is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peerwatt.report.comparison import (
    MICRO,
    SMALLEST,
    Kpi,
    Summary,
    battery_account,
    beats,
    best_arms,
    changes,
    flows_differ,
    in_words,
    is_low_tech,
    kpi_values,
    level,
    moved_by_no_rule,
    only_money,
    reference_of,
    same,
    shown_kpis,
)
from peerwatt.report.text import NOTHING, count, listing, money, percent
from peerwatt.report.wording import profit_or_loss
from peerwatt.results.remarks import capital

_NEGLIGIBLE = 5e-4  # of a cost or a saving: roundings of the ledger are not worth a word


def physical_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    """What no rule moves, said once; and how these figures differ from those of the arms without a market."""
    still = moved_by_no_rule(summaries)
    without = [i for i, s in enumerate(summaries) if s["run"]["rule"] == "no_market"]
    names = listing([in_words(arms[i]) for i in without])
    everywhere = [k for k in still if level(k, kpi_values(k, summaries))]
    found = []
    if only_money(summaries) and still:
        keys = {k.key for k in still}
        all_arms = len(everywhere) == len(still)
        moved = flows_differ([s for i, s in enumerate(summaries) if all_arms or i not in without])
        words = [*([] if moved else ["energy flows"]), "peaks"]
        words += [word for word in ("losses", "violations") if word in keys]
        words += ["interruptions of supply"] if "saidi" in keys else []
        where = "arm" if all_arms else f"arm but {names}"
        start = "" if moved else "The rules compared move only money here: "
        text = f"{start}{listing(words)} are the same in every {where}."
        found.append(capital(text))
    elif everywhere:
        found.append(f"No difference between the arms in {listing([k.name for k in everywhere])}.")
    better: list[str] = []
    missed: list[str] = []
    for kpi in (k for k in still if k not in everywhere):
        values = kpi_values(kpi, summaries)
        ours = next(v for i, v in enumerate(values) if i not in without and v is not None)
        theirs = {i: v for i in without if (v := values[i]) is not None}
        said = f"{kpi.name} ({kpi.show(ours, '')}; {_by_arm(kpi, theirs, arms)})"
        (better if all(beats(kpi, ours, v) for v in theirs.values()) else missed).append(said)
    battery = any(s["money"].get("community_storage_u") is not None for s in summaries)
    idle = ": without a market the community battery stands idle" if battery else ""
    if better:
        found.append(f"Whatever the rule or key, the other arms are better than {names} in {listing(better)}{idle}.")
    if missed:
        each = "each of " if len(without) > 1 else ""
        where = listing(missed)
        found.append(f"Whatever the rule or key, the other arms are not better than {each}{names} in {where}.")
    return found


def supply_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    """How long customers were without supply in outages, arms with the same figures together; nothing without any."""
    told = {kpi.key: kpi for kpi in shown_kpis(summaries) if kpi.key in ("saidi", "unserved")}
    if len(told) < 2:
        return []
    shown: dict[tuple[str, ...], list[str]] = {}
    worst: dict[tuple[str, ...], float] = {}
    values = {key: kpi_values(kpi, summaries) for key, kpi in told.items()}
    for i, arm in enumerate(arms):
        minutes, energy_kwh = values["saidi"][i], values["unserved"][i]
        if minutes is None or energy_kwh is None:
            continue
        words = told["saidi"].show(minutes, ""), told["unserved"].show(energy_kwh, "")
        shown.setdefault(words, []).append(in_words(arm))
        worst[words] = minutes
    parts = [
        f"{minutes} ({energy_kwh} of load not supplied)" + (f" with {listing(shown[key])}" if len(shown) > 1 else "")
        for key in sorted(shown, key=lambda key: worst[key])
        for minutes, energy_kwh in [key]
    ]
    everywhere = ", in every arm" if len(shown) == 1 else ""
    return [f"In the outages a customer was on average without supply for {listing(parts)}{everywhere}."]


def _by_arm(kpi: Kpi, values: Mapping[int, float], arms: Sequence[str]) -> str:
    """Values in words, arms with the same one together: ``61.0 % with no market and the time-of-use tariff``."""
    shown: dict[str, list[str]] = {}
    for i, value in values.items():
        shown.setdefault(kpi.show(value, ""), []).append(in_words(arms[i]))
    return ", ".join(f"{words} with {listing(names)}" for words, names in shown.items())


def cost_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    """What all buildings together pay in each arm against the reference, and which accounts receive less."""
    reference = reference_of(summaries)
    base = summaries[reference]
    currency = base["run"]["currency"]
    found = []
    for i, summary in enumerate(summaries):
        if i == reference:
            continue
        saved = (base["money"]["cost_u"] - summary["money"]["cost_u"]) / MICRO
        cost = abs(base["money"]["cost_u"]) / MICRO
        if abs(saved) < max(SMALLEST, _NEGLIGIBLE * cost):
            much = "practically the same as"
        else:
            share = f" ({percent(abs(saved) / cost)})" if cost else ""
            much = f"{money(abs(saved), currency)}{share} {'less' if saved > 0 else 'more'} than"
        text = f"With {in_words(arms[i])} all buildings together pay {much} with {in_words(arms[reference])}"
        found.append(
            f"{text}; {_losers(summary, base)}{_battery(summary, currency)}{_who_pays(summary, base, currency)}."
        )
    return found


def _losers(summary: Summary, base: Summary) -> str:
    change = changes(summary, base)
    lost = sum(c >= SMALLEST for c in change.values())
    if not lost:
        return f"none of {count(len(change), 'building')} pays more"
    return f"{lost} of {count(len(change), 'building')} pay{'s' if lost == 1 else ''} more"


def _battery(summary: Summary, currency: str) -> str:
    amount = battery_account(summary, summary)
    if amount is None or abs(amount) < SMALLEST:
        return ""
    return f"; the community battery, counted in, makes {profit_or_loss(amount, currency)}"


def _who_pays(summary: Summary, base: Summary, currency: str) -> str:
    """Where savings come from: other accounts that receive less."""
    parts: list[str] = []
    cost = abs(base["money"]["cost_u"]) / MICRO
    for account in ("retailer", "network", "state", "operator"):
        both = [s["money"]["accounts"].get(account, {}).get("total_u", 0) for s in (summary, base)]
        change = (both[0] - both[1]) / MICRO
        if abs(change) >= max(SMALLEST, _NEGLIGIBLE * cost):
            verb = "" if parts else "receives "
            parts.append(f"the {account} {verb}{money(abs(change), currency)} {'more' if change > 0 else 'less'}")
    return f"; in return {listing(parts)}" if parts else ""


def against_low_tech(summaries: Sequence[Summary], arms: Sequence[str], i: int) -> str:
    """Where trading arm i does not beat each low-tech arm; arms with the same lists together.

    Left out is what no arm changes, what is said of all arms before, and what is undefined for one of the two. In what
    it is better stands in the table; the sentence counts it.
    """
    alike: dict[tuple[str, str, int], list[str]] = {}
    for j, summary in enumerate(summaries):
        if is_low_tech(summary):
            alike.setdefault(_against(summaries, i, j), []).append(in_words(arms[j]))
    parts = []
    for (worse, equal, better), others in alike.items():
        name = listing(others, "or")
        behind = f"in {worse}" if worse else ""
        level_with = f"{'and is' if worse else 'in'} {'equal in ' if worse else ''}{equal}" if equal else ""
        if not (worse or equal or better):
            elsewhere = any(not level(k, kpi_values(k, summaries)) for k in moved_by_no_rule(summaries))
            parts.append(f"does not differ from {name} in any {'other figure' if elsewhere else 'figure'} compared")
        elif not (worse or equal):
            parts.append(f"beats {listing(others)} in {count(better, 'figure')} and falls behind in none")
        else:
            gain = f"; it is better in {count(better, 'figure')}" if better else ""
            parts.append(" ".join(x for x in (f"does not beat {name}", behind, level_with) if x) + gain)
    return f"{capital(in_words(arms[i]))} {'. It '.join(parts)}."


def _against(summaries: Sequence[Summary], i: int, j: int) -> tuple[str, str, int]:
    """The figures in which arm i is worse than arm j (with both values) and equal, in words; how many are better."""
    currency = summaries[i]["run"]["currency"]
    still = moved_by_no_rule(summaries)
    better = 0
    worse: list[str] = []
    equal: list[str] = []
    for kpi in shown_kpis(summaries):
        values = kpi_values(kpi, summaries)
        a, b = values[i], values[j]
        if a is None or b is None or kpi.better == "none" or kpi in still or level(kpi, values):
            continue
        if same(kpi, a, b):
            equal.append(kpi.name)
        elif beats(kpi, a, b):
            better += 1
        else:
            worse.append(f"{kpi.name} ({kpi.show(a, currency)} against {kpi.show(b, currency)})")
    ours, theirs = (battery_account(summaries[k], summaries[k]) or 0.0 for k in (i, j))
    if ours <= -SMALLEST and theirs - ours >= SMALLEST:
        against = "none" if abs(theirs) < SMALLEST else profit_or_loss(theirs, currency)
        worse.append(f"the account of the community battery ({profit_or_loss(ours, currency)} against {against})")
    return listing(worse), listing(equal), better


def best_findings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    """Which arms no other beats, figures with the same best arms together."""
    currency = summaries[0]["run"]["currency"]
    by_arm: dict[str, list[str]] = {}
    still = moved_by_no_rule(summaries)
    with_market = [i for i, s in enumerate(summaries) if s["run"]["rule"] != "no_market"]
    for kpi in shown_kpis(summaries):
        values = kpi_values(kpi, summaries)
        best = best_arms(kpi, values)
        if kpi in still and best == with_market:  # said before
            continue
        if best and not level(kpi, values):
            value = values[best[0]]
            words = kpi.show(value, currency) if value is not None else NOTHING
            by_arm.setdefault(listing([arms[i] for i in best]), []).append(f"{kpi.name} ({words})")
    return [f"Best at {listing(items)}: {arm}." for arm, items in by_arm.items()]
