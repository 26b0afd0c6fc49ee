"""The metrics of market-rules 1 over many books, each an estimate with an interval.

Books are the independent observations: figures of agents are first brought to one number per book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf, log
from typing import TYPE_CHECKING, Any

from core.statistics import Estimate, bounded_mean, proportion_estimate, ratio_estimate
from market.audit.meter_outcome import MeterOutcome
from market.audit.outcome import BookOutcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Outcome = BookOutcome | MeterOutcome
_Optional = float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: what it is called, what it means, which way is better (+1 more, -1 less, 0 neither), and its range."""

    name: str
    title: str
    definition: str
    better: int = 0
    low: float = -inf
    high: float = inf


METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            "efficiency", "allocative efficiency", "sum of W at true values / sum of W*, the local optimum", 1, high=1
        ),
        Metric(
            "efficiency_retailer",
            "eff. with retailer",
            "the same where everybody may also buy at retail and sell at feed-in: local trade is worth the spread",
            1,
            high=1,
        ),
        Metric("efficiency_mean", "efficiency per book", "mean over books of W / W*; 1 where both are 0", 1, high=1),
        Metric("trader_efficiency", "traders' efficiency", "(sum of W - operator surplus) / sum of W*", 1),
        Metric("operator_share", "operator's share", "sum of the operator's surplus / sum of W*"),
        Metric(
            "ir_violations",
            "books, some worse off",
            "share of books with an agent of negative utility",
            -1,
            low=0,
            high=1,
        ),
        Metric(
            "ir_share",
            "agents worse off",
            "mean over books of the share of agents with utility < 0",
            -1,
            low=0,
            high=1,
        ),
        Metric(
            "ir_depth", "worst loss", "mean over books of the worst agent's loss / W* (0 = nobody loses)", -1, low=0
        ),
        Metric("deficit_share", "books with a deficit", "share of books in which the operator pays", -1),
        Metric("gain", "greatest gain / W*", "mean over books of the greatest gain of an agent / W*", -1, low=0),
        Metric("gain_mean", "mean gain / W*", "mean over books of the mean agent's gain / W*", -1, low=0),
        Metric("gain_price", "gain by price", "as gain, other prices only", -1, low=0),
        Metric(
            "gain_quantity",
            "gain by quantity",
            "as gain, other quantities only (meters: energy thrown away)",
            -1,
            low=0,
        ),
        Metric("gain_split", "gain by splitting", "as gain, the order in two parts only", -1, low=0),
        Metric("gain_identity", "gain by second name", "as gain, second identities only", -1, low=0),
        Metric("gini", "Gini of savings", "sum abs(x_i - x_j) / (2 n sum x) of savings beside being alone", -1),
        Metric("jain", "Jain of savings", "(sum x)^2 / (n sum x^2) of savings beside being alone", 1, low=0, high=1),
        Metric("negative_savings", "books with a loser", "share of books with a negative saving among them (flag)", -1),
        Metric("qos", "QoS (prices)", "Jain of bill / energy, agents without energy left out", 1, low=0, high=1),
        Metric("qoe", "QoE (prices)", "1 - 2 sigma / (retail - feed-in) of bill / energy", 1, high=1),
        Metric("mim", "MiM (prices)", "lowest / highest bill per energy", 1, low=0, high=1),
        Metric("bill_change_min", "bill change, lowest", "mean over books of min (bill - alone) / abs(alone)", -1),
        Metric("bill_change_max", "bill change, highest", "mean over books of max (bill - alone) / abs(alone)", -1),
        Metric(
            "price_deviation",
            "Smith's alpha",
            "rms of (price - equilibrium) / rms of equilibrium, over books",
            -1,
            low=0,
        ),
        Metric("self_sufficiency", "local share of demand", "sum of local energy / sum of demand", 1, low=0, high=1),
        Metric("self_consumption", "local share of supply", "sum of local energy / sum of supply", 1, low=0, high=1),
        Metric("messages", "messages per agent", "messages of the protocol / agents, per slot", -1),
        Metric("payload", "bytes per agent", "payload bytes of the protocol / agents, per slot", -1),
        Metric("rounds", "rounds", "rounds of messages: the critical path", -1),
        Metric(
            "leakage",
            "leakage [bit]",
            "mutual information between the published price and one agent's limit, binned, bias-corrected",
            -1,
        ),
    )
}
"""Every metric by name."""


def book_values(outcome: Outcome) -> dict[str, float]:
    """One book's own numbers, by metric, where they are defined: what paired comparisons between rules compare."""
    best = outcome.optimum_u
    out: dict[str, _Optional] = {}
    if best > 0:
        out["efficiency_mean"] = float(outcome.welfare_u / best)
        out["trader_efficiency"] = float((outcome.welfare_u - outcome.surplus_u) / best)
        out["operator_share"] = float(outcome.surplus_u / best)
        out["ir_depth"] = float(-min(outcome.worst_u, Fraction(0)) / best)
    elif outcome.welfare_u == 0:
        out["efficiency_mean"] = 1.0
    gains = _gains(outcome)
    if best > 0:
        out |= {name: float(gain / best) for name, gain in gains.items()}
    savings = _savings(outcome)
    out["ir_share"] = _share([s < 0 for s in _utilities(outcome)])
    out["gini"], out["jain"] = gini(savings), jain(savings)
    bills = _bills(outcome)
    out |= perceived(bills, _spread(outcome))
    changes = [float((bill - alone) / abs(alone)) for bill, _, alone in bills if alone]
    out["bill_change_min"] = min(changes, default=None)
    out["bill_change_max"] = max(changes, default=None)
    n = len(savings)
    if n:
        out["messages"], out["payload"] = outcome.messages / n, outcome.payload_bytes / n
    out["rounds"] = float(outcome.rounds)
    return {name: value for name, value in out.items() if value is not None}


def _gains(outcome: Outcome) -> dict[str, Fraction]:
    if isinstance(outcome, MeterOutcome):
        if not outcome.tried:
            return {}
        gain = max(outcome.wasted.values(), default=Fraction(0))
        return {"gain_quantity": gain, "gain": gain, "gain_mean": _mean(list(outcome.wasted.values()))}
    out = {f"gain_{kind}": outcome.gain_u(kind) for kind in outcome.found}
    own = [kind for kind in outcome.found if kind != "identity"]
    if own:
        out["gain"] = outcome.gain_u()
        each = [max(outcome.found[k].gains_u[a] for k in own) for a in outcome.book.agents]
        out["gain_mean"] = _mean(each)
    return out


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values) if values else Fraction(0)


def _share(hits: Sequence[bool]) -> _Optional:
    return sum(hits) / len(hits) if hits else None


def _utilities(outcome: Outcome) -> list[Fraction]:
    if isinstance(outcome, MeterOutcome):
        return list(outcome.savings.values())
    return [p.utility_u for p in outcome.people.values()]


def _savings(outcome: Outcome) -> list[Fraction]:
    if isinstance(outcome, MeterOutcome):
        return list(outcome.savings.values())
    return [p.saving_u for p in outcome.people.values()]


def _bills(outcome: Outcome) -> list[tuple[Fraction, int, Fraction]]:
    """(bill, energy behind it, bill alone) of every agent."""
    if isinstance(outcome, MeterOutcome):
        m = outcome.book.meters
        energy = {x: abs(n) for x, n in zip(m.members, m.net_wh, strict=True)}
        return [(bill, energy[x], outcome.alone[x]) for x, bill in outcome.bills.items()]
    return [(p.bill_u, p.energy_wh, p.alone_u) for p in outcome.people.values()]


def _spread(outcome: Outcome) -> int | None:
    """Retail minus feed-in where everybody has the same [micro-currency per kWh]."""
    if isinstance(outcome, MeterOutcome):
        m = outcome.book.meters
        return None if m.one_retail_u is None or m.one_feed_in_u is None else m.one_retail_u - m.one_feed_in_u
    return None if outcome.book.tariff is None else outcome.book.tariff[0] - outcome.book.tariff[1]


def gini(values: Sequence[Fraction]) -> _Optional:
    """Gini's coefficient; None where the sum is not positive. Negative entries are allowed."""
    total = sum(values, Fraction(0))
    if not values or total <= 0:
        return None
    ranked = sorted(values)
    n = len(ranked)
    # sum over pairs of |x_i - x_j| = 2 sum_k (2k - n + 1) x_k of the ranked values, k = 0..n-1
    pairs = 2 * sum(((2 * k - n + 1) * x for k, x in enumerate(ranked)), Fraction(0))
    return float(pairs / (2 * n * total))


def jain(values: Sequence[Fraction]) -> _Optional:
    """Jain's index; None where every value is zero."""
    squares = sum((x * x for x in values), Fraction(0))
    return None if squares == 0 else float(sum(values, Fraction(0)) ** 2 / (len(values) * squares))


def perceived(bills: Sequence[tuple[Fraction, int, Fraction]], spread_u: int | None) -> dict[str, _Optional]:
    """QoS, QoE and MiM of the perceived prices, bill over energy (Moret & Pinson 2019); sellers' are what they get."""
    prices = [abs(bill) * 1000 / energy for bill, energy, _ in bills if energy]
    if not prices:
        return {}
    mean = _mean(prices)
    variance = _mean([(p - mean) ** 2 for p in prices])
    highest = max(prices)
    return {
        "qos": jain(prices),
        "qoe": None if not spread_u or spread_u < 0 else 1.0 - 2.0 * float(variance) ** 0.5 / spread_u,
        "mim": None if highest == 0 else float(min(prices) / highest),
    }


MEANS = ("efficiency_mean", "ir_share", "ir_depth", "gain", "gain_mean", "gain_price", "gain_quantity", "gain_split",
         "gain_identity", "gini", "jain", "qos", "qoe", "mim", "bill_change_min", "bill_change_max", "messages",
         "payload", "rounds")  # fmt: skip
"""Metrics that are means over books."""


def estimates(
    outcomes: Sequence[Outcome], *, values: Sequence[Mapping[str, float]] | None = None
) -> dict[str, Estimate]:
    """Every metric that the outcomes allow, with its interval, in the order of ``METRICS``.

    Parameters
    ----------
    outcomes
        Books that the rule cleared.
    values
        ``book_values`` of each, if they are there already.
    """
    done = [o for o in outcomes if o.measured]
    columns = [book_values(o) for o in done] if values is None else list(values)
    out: dict[str, Estimate] = {}
    best = [float(o.optimum_u) for o in done]
    out["efficiency"] = ratio_estimate([float(o.welfare_u) for o in done], best)
    out["trader_efficiency"] = ratio_estimate([float(o.welfare_u - o.surplus_u) for o in done], best)
    out["operator_share"] = ratio_estimate([float(o.surplus_u) for o in done], best)
    out["ir_violations"] = proportion_estimate(sum(o.worst_u < 0 for o in done), len(done))
    out["deficit_share"] = proportion_estimate(sum(o.surplus_u < 0 for o in done), len(done))
    losers = [any(s < 0 for s in _savings(o)) for o in done]
    out["negative_savings"] = proportion_estimate(sum(losers), len(done))
    orders = [o for o in done if isinstance(o, BookOutcome)]
    out |= _of_orders(orders)
    out |= _of_meters([o for o in done if isinstance(o, MeterOutcome)])
    for name in MEANS:
        column = [c[name] for c in columns if name in c]
        if column:
            out[name] = bounded_mean(column, METRICS[name].low, METRICS[name].high)
    return {name: _cut(out[name], METRICS[name]) for name in METRICS if name in out and out[name].known}


def _cut(estimate: Estimate, metric: Metric) -> Estimate:
    """The interval within the metric's range, which a t or jackknife interval does not know of."""
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = max(estimate.low, metric.low), min(estimate.high, metric.high)
    if (low, high) == (estimate.low, estimate.high):
        return estimate
    return replace(estimate, low=low, high=high, method=f"{estimate.method}, cut to the range")


def _of_orders(done: Sequence[BookOutcome]) -> dict[str, Estimate]:
    out: dict[str, Estimate] = {}
    wide = [(o.welfare_retailer_u, o.optimum_retailer_u) for o in done]
    both = [(float(a), float(b)) for a, b in wide if a is not None and b is not None]
    if both:
        out["efficiency_retailer"] = ratio_estimate([a for a, _ in both], [b for _, b in both])
    local = [float(o.volume_wh) for o in done]
    if done:
        out["self_sufficiency"] = ratio_estimate(local, [float(o.demand_wh) for o in done])
        out["self_consumption"] = ratio_estimate(local, [float(o.supply_wh) for o in done])
    priced = [(o.price, o.alpha_base) for o in done]
    pairs = [(p, b) for p, b in priced if p is not None and b is not None and b > 0]
    if pairs:
        squared = ratio_estimate([float((p - b) ** 2) for p, b in pairs], [float(b * b) for _, b in pairs])
        out["price_deviation"] = _root(squared)
    seen = [(o.book.orders[0].price_u, o.price) for o in done if o.price is not None and o.book.family == "uniform"]
    if len(seen) >= 30:
        out["leakage"] = leakage_bits([float(v) for v, _ in seen], [float(p) for _, p in seen])
    return out


def _of_meters(done: Sequence[MeterOutcome]) -> dict[str, Estimate]:
    if not done:
        return {}
    local = [float(o.volume_wh) for o in done]
    return {
        "self_sufficiency": ratio_estimate(local, [float(o.book.meters.demand_wh) for o in done]),
        "self_consumption": ratio_estimate(local, [float(o.book.meters.supply_wh) for o in done]),
    }


def _root(squared: Estimate) -> Estimate:
    def root(x: float | None) -> float | None:
        return None if x is None else max(x, 0.0) ** 0.5

    return Estimate(root(squared.value), root(squared.low), root(squared.high), squared.n, squared.method)


def leakage_bits(private: Sequence[float], public: Sequence[float], bins: int = 6) -> Estimate:
    """Mutual information in bits between two columns, in bins of equal count, less the Miller-Madow bias.

    The interval is a jackknife over ten blocks.
    """
    import numpy as np

    a, b = _ranks(np.asarray(private), bins), _ranks(np.asarray(public), bins)

    def bits(keep: NDArray[np.bool_]) -> float:
        table = np.zeros((bins, bins))
        np.add.at(table, (a[keep], b[keep]), 1.0)
        n = table.sum()
        joint = table / n
        product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        raw = float((joint[seen] * np.log2(joint[seen] / product[seen])).sum())
        used = np.count_nonzero(table), np.count_nonzero(table.sum(1)), np.count_nonzero(table.sum(0))
        return max(0.0, raw - (used[0] - used[1] - used[2] + 1) / (2 * float(n) * log(2)))

    n, blocks = len(a), 10
    value = bits(np.ones(n, np.bool_))
    block = np.arange(n) % blocks
    left_out = np.array([bits(block != k) for k in range(blocks)])
    spread = float(np.sqrt((blocks - 1) / blocks * ((left_out - left_out.mean()) ** 2).sum()))
    half = 2.262 * spread  # Student's t, nine degrees of freedom
    return Estimate(value, max(0.0, value - half), value + half, n, "jackknife over ten blocks")


def _ranks(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Bin numbers 0..bins-1 of nearly equal count, equal values in the same bin."""
    import numpy as np

    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, values, side="right"), np.int64)


def grouped(outcomes: Iterable[Outcome], key: Callable[[Outcome], Any]) -> dict[Any, list[Outcome]]:
    """Outcomes by a key, in order of appearance."""
    out: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        out.setdefault(key(outcome), []).append(outcome)
    return out
