"""Any rule within operating envelopes: orders are cut to what the feeder can carry (market-rules 2.20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Book, BookBatch, Context
from market.envelopes import ALLOCATIONS, Envelopes, envelopes
from market.feeder import AcCheck, Feeder
from market.registry import (
    BidRule,
    Declares,
    choice_parameter,
    fraction_parameter,
    make_rule,
    parameter,
    register_rule,
)
from market.result import BatchClearing, Result
from market.rules._radial import Radial
from market.terms import Terms

Int = NDArray[np.int64]


@register_rule
@dataclass(frozen=True, kw_only=True)
class OperatingEnvelopes(BidRule):
    """Another rule, inside limits of feeding in and drawing that are given to every connection point beforehand.

    What an agent's sell orders ask for in all is its request for feeding in, its buy orders' that for drawing. The room
    of the feeder is shared by ``allocation`` (see `market.envelopes.envelopes`) without looking at prices; orders
    beyond it are cut, an agent's worst ones first, and the inner rule clears the rest. Any use within the envelopes is
    feasible in LinDistFlow, since both corners are: all at their export limits and all at their import limits. With an
    ``ac_check`` in the context both are checked by AC power flow and the envelopes tightened. Envelopes are whole Wh.

    Source: K. Petrou et al. (2021), IEEE PES ISGT Europe (operating envelopes); J. Mo & J. Walrand (2000), IEEE/ACM
    Trans. Netw. 8(5), 556-567 (alpha-fairness).
    """

    name: ClassVar[str] = "operating_envelopes"
    summary: ClassVar[str] = "any rule, with orders cut to limits per connection point that the feeder can carry"
    section: ClassVar[str] = "2.20"
    source: ClassVar[str] = "Petrou et al. 2021; Mo & Walrand 2000"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", needs_network=True, scales=False, reveals={"operator": ("quantity", "place")}
    )

    inner: str = parameter("uniform_price", "name of the inner rule")
    inner_parameters: Mapping[str, Any] = parameter({}, "parameters of the inner rule")
    allocation: str = parameter("equal", "equal, proportional, max_total or alpha_fair")
    alpha: Any = parameter(1, "of alpha_fair: 0 = largest total, large = equal")
    weights: Mapping[str, Any] = parameter({}, "of max_total and alpha_fair: agent -> weight; others 1")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "allocation", self.allocation, ALLOCATIONS)
        object.__setattr__(self, "alpha", fraction_parameter(self.name, "alpha", self.alpha, 0, 10))
        for agent, weight in self.weights.items():
            if fraction_parameter(self.name, f"weights[{agent}]", weight, 0) == 0:
                raise MarketError(f"{self.name}: parameter weights[{agent}] is 0", remedy="give a number above 0")
        inner = self.inner_rule
        own = replace(
            inner.declares,
            efficient=False,
            needs_network=True,
            scales=False,
            truthful_quantity=False,
            reveals={**inner.declares.reveals, **self.declares.reveals},
        )
        shown = {"declares": own, "flags": inner.flags, "classes": inner.classes, "surplus_to": inner.surplus_to}
        for name, value in shown.items():  # what holds of this rule depends on the one inside
            object.__setattr__(self, name, value)

    @property
    def inner_rule(self) -> BidRule:
        """The rule inside, with its parameters."""
        found = make_rule(self.inner, self.inner_parameters)
        if not isinstance(found, BidRule):
            raise MarketError(
                f"{self.name}: parameter inner is {self.inner!r}, which works on meters",
                remedy="name a rule that takes orders: envelopes cut orders",
            )
        if isinstance(found, OperatingEnvelopes):
            raise MarketError(f"{self.name}: parameter inner is {self.inner!r} itself", remedy="name the rule inside")
        return found

    @property
    def pairs(self) -> bool:
        """As the inner rule."""
        return self.inner_rule.pairs

    def cannot_honour(self, terms: Terms) -> str | None:
        """As the inner rule."""
        return self.inner_rule.cannot_honour(terms)

    def applicable(self, book: Book, context: Context) -> str | None:
        """See `market.registry.BidRule.applicable`."""
        return _unfit(context.feeder, book.node) or self.inner_rule.applicable(book, context)

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        assert context.feeder is not None, "refused by applicable"
        side, e_wh = np.array(book.side, np.int64), np.array(book.e_wh, np.int64)
        ranks = _ranks(side, book.price_u, book.t, book.seq, book.id_rank)
        whole = [bool(INDIVISIBLE & set(flags)) for flags in book.flags or [()] * len(book)]
        radial = Radial(context.feeder)
        cut, told = self._cut(radial, 0, side, e_wh, ranks, book.agent_ids, book.node, whole, context.ac_check)
        result = self.inner_rule.clear(replace(book, e_wh=tuple(cut.tolist())), context)
        return replace(result, rule=self.name, diagnostics={**result.diagnostics, "envelopes": told})

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Cut every slot's orders, then the inner rule's batch."""
        node = (None,) * batch.n_orders if batch.node is None else batch.node
        if (reason := _unfit(batch.feeder, node)) is not None:
            raise MarketError(f"{self.name}, slot {batch.first_slot}: {reason}", remedy="choose another rule")
        assert batch.feeder is not None, "refused above"
        radial = Radial(batch.feeder)
        ids = batch.agent_ids
        agents = tuple(f"{int(m):09d}" if ids is None else ids[m] for m in batch.member)
        whole = [bool(INDIVISIBLE & set(flags)) for flags in batch.flags or [()] * batch.n_orders]
        e_wh = np.zeros_like(batch.e_wh)
        for s in range(batch.n_slots):
            side = batch.side[s].astype(np.int64)
            ranks = _ranks(side, batch.price_u[s], batch.t, batch.seq, batch.order_rank)
            e_wh[s], _ = self._cut(radial, s, side, batch.e_wh[s], ranks, agents, node, whole, batch.ac_check)
        return self.inner_rule.clear_batch(replace(batch, e_wh=e_wh))

    def _cut(
        self, radial: Radial, row: int, side: Int, e_wh: Int, ranks: Int, agents: tuple[str, ...],
        node: tuple[str | None, ...], whole: Sequence[bool], check: AcCheck | None,
    ) -> tuple[Int, dict[str, Any]]:  # fmt: skip
        """Quantities within the envelopes [Wh], and what is told of them.

        An indivisible order (``whole``) that does not fit gets nothing and uses nothing of the envelope.
        """
        out = np.zeros(len(side), np.int64)
        told: dict[str, Any] = {}
        for sign, direction in ((-1, "export"), (1, "import")):
            orders = [i for i in ranks.tolist() if side[i] == sign and e_wh[i] > 0]
            points = sorted({(agents[i], str(node[i])) for i in orders})
            place = {point: k for k, point in enumerate(points)}
            request = np.zeros(len(points))
            for i in orders:
                request[place[agents[i], str(node[i])]] += int(e_wh[i])
            found = self._envelopes(radial, row, points, request, direction, check)
            left = np.floor(found.limit_wh + 1e-6).astype(np.int64)
            limits = left.copy()
            for i in orders:
                k = place[agents[i], str(node[i])]
                fits = e_wh[i] <= left[k]
                out[i] = e_wh[i] if fits else 0 if whole[i] else left[k]
                left[k] -= out[i]
            told[direction] = {
                "limit_wh": {agent: int(x) for (agent, _), x in zip(points, limits, strict=True)},
                "feasible": found.feasible,
                "ac_rounds": found.rounds,
                "ac_left": found.left,
            }
        return out, told

    def _envelopes(
        self, radial: Radial, row: int, points: list[tuple[str, str]], request: NDArray[np.float64], direction: str,
        check: AcCheck | None,
    ) -> Envelopes:  # fmt: skip
        return envelopes(
            radial.feeder,
            [node for _, node in points],
            request.tolist(),
            direction=direction,
            rule=self.allocation,
            weights=[float(self.weights.get(agent, 1)) for agent, _ in points],
            alpha=float(self.alpha),
            row=row,
            ac_check=check if len(points) else None,
            radial=radial,
        )


INDIVISIBLE = frozenset({"block", "aon", "fok"})


def _unfit(feeder: Feeder | None, node: tuple[str | None, ...]) -> str | None:
    if feeder is None:
        return "the context has no feeder (market.feeder.Feeder)"
    for x in node:
        if x is None or x not in feeder.index:
            return f"an order's node is {x!r}, which is not on the feeder"
    return None


def _ranks(side: Int, price_u: Any, t: Any, seq: Any, rank: Any) -> Int:
    """Orders from the best of their side to the worst (market-rules 0.3)."""
    return np.asarray(np.lexsort((rank, seq, t, -side * np.asarray(price_u))), np.int64)
