"""The energy lines of a statement where contracts are more than deliveries between neighbours.

So it is where the retailer stands in the book, where a later stage sells on what an earlier one bought, and beside
standing contracts. Money is booked by the role in each deal; these lines give the energy of the same deals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import RunStatic

Entry = tuple[str, int, int | None]
"""Words, energy [Wh], amount [micro-currency], + pays; None: no amount of its own is known."""


def market_names(static: RunStatic) -> tuple[str, str]:
    """What purchases and sales by contract are called: neighbours are named where they are all there is."""
    if static.in_book or len(static.stages) > 1:
        return "Bought in the market", "Sold in the market"
    return "Bought from neighbours", "Sold to neighbours"


def gross_entries(
    static: RunStatic, values: Mapping[str, NDArray[Any]], i: int, paid: Mapping[str, int], *, by_role: bool
) -> list[Entry]:
    """The lines of building ``i``. Without amounts ``by_role`` (bills), market money is net, and so is its energy."""
    wh = {
        f"{name}_{way}": _sum(values, f"{name}_{way}", i)
        for name in ("contract", "residual")
        for way in ("bought", "sold")
    }
    if by_role:
        bought, sold = market_names(static)
        lines: list[Entry] = [
            (bought, wh["contract_bought"], paid["local_bought"]),
            (sold, wh["contract_sold"], paid["local_sold"]),
        ]
    else:
        net = wh["contract_bought"] - wh["contract_sold"]
        lines = [("Traded, bought less sold", net, paid["local_bought"] + paid["local_sold"])]
    beside = " outside the market" if static.in_book else ""
    return [
        *lines,
        (f"Bought from the retailer{beside}", wh["residual_bought"], paid.get("retail_bought")),
        (f"Sold to the retailer{beside}", wh["residual_sold"], paid.get("retail_sold")),
    ]


def parts_sentence(static: RunStatic, values: Mapping[str, NDArray[Any]], i: int) -> str:
    """With whom the energy of the market's lines was traded, and what of it only passed through; empty where plain."""
    sentences = []
    for way, verb, side, back in (
        ("bought", "bought", "from", "you sold again"),
        ("sold", "sold", "to", "you had bought before or bought back"),
    ):
        total = _sum(values, f"contract_{way}", i)
        near, in_book = (int(values[f"month_{name}_wh"][:, i].sum()) for name in (way, f"in_book_{way}"))
        passed = total - near - in_book
        if not total or not (in_book or passed):
            continue
        moved = "came" if way == "bought" else "went"
        told = (near, f"{moved} {side} neighbours"), (in_book, f"{moved} {side} the retailer"), (passed, back)
        parts = [f"{wh / 1000:,.1f} kWh {words}" for wh, words in told if wh]
        listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
        sentences.append(f"Of the {total / 1000:,.1f} kWh {verb} by contract, {listed}.")
    return " ".join(sentences)


def neighbour_sentence(static: RunStatic) -> str:
    """How the tables of neighbours came about: as traded, as far as it was traded by pairs, or an attribution."""
    *ahead, (last, _, last_pairs) = static.stages
    without = [name for name, _, pairs in ahead if not pairs]
    if static.traced:
        if static.pairs and without:
            return f"As traded, neighbour by neighbour; what was traded in {' and '.join(without)} has no pairs and " \
                   "is not in this table."  # fmt: skip
        return "As traded, neighbour by neighbour."
    if any(pairs for _, _, pairs in ahead) or static.standing:
        pooled = [*without, *([] if last_pairs else [last])]
        why = f"what was traded in the market ({', '.join(pooled)}) has no pairs" if ahead else (
            "only the standing contracts say who delivers to whom, the rule does not")  # fmt: skip
    else:
        why = "the rule has no pairs"
    return (
        f"An attribution: {why}, so the local purchases of each slot are shared over its sellers in proportion to what "
        "they sold."
    )


def _sum(values: Mapping[str, NDArray[Any]], name: str, i: int) -> int:
    return int(np.sum(values[f"month_{name}_wh"][:, i]))
