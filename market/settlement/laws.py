"""The laws of settlement (market-rules 4.5), checked in integers for every slot of every run."""

from __future__ import annotations

import numpy as np

from core.errors import MarketError
from market.settlement.columns import LEDGER_KINDS, NETWORK, OPERATOR, RETAILER, STATE, Int, Postings

_COUNTERPARTS = {
    "contract": (RETAILER, OPERATOR, NETWORK),
    "residual": (RETAILER,),
    "network": (NETWORK,),
    "levies": (STATE,),
    "losses": (NETWORK, RETAILER),
}
"""System accounts that a kind may touch."""


def check_laws(
    postings: Postings, import_wh: Int, export_wh: Int, *, exchange_wh: Int | None = None, first_slot: int = 0
) -> None:
    """Check laws (a) to (f) of market-rules 4.5 on a settled window.

    Parameters
    ----------
    postings
        What `settle_contracts` or `settle_sharing` gave.
    import_wh, export_wh
        The meters ``(S, B)`` it was given.
    exchange_wh
        ``(S,)`` energy through the connection point, + draws from the grid above; checked if given.
    first_slot
        Number of the window's first slot, for messages.

    Raises
    ------
    MarketError
        Naming slot, law and difference.
    """
    contracts = postings.contracts
    net = import_wh.sum(axis=1) - export_wh.sum(axis=1)
    from_retailer = contracts.retailer_sold_wh - contracts.retailer_bought_wh
    position = contracts.bought_wh.sum(axis=1) - contracts.sold_wh.sum(axis=1)
    _hold("a", "contracts bought minus sold, the retailer's among them", "Wh", position - from_retailer, first_slot)
    residual = postings.residual_wh.sum(axis=1)
    _hold("b", "residuals minus metered net", "Wh", residual - (net - from_retailer), first_slot)
    if exchange_wh is not None:
        gap = exchange_wh - net - postings.loss_wh
        _hold("b", "exchange at the connection point minus metered net and losses", "Wh", gap, first_slot)
    supply = postings.retailer_sold_wh - postings.retailer_bought_wh
    _hold("c", "sold minus bought by the retailer, less the metered net", "Wh", supply - net, first_slot)
    _check_entries(postings, first_slot)
    kept = contracts.paid_u.sum(axis=1) - contracts.received_u.sum(axis=1) - contracts.retailer_u
    posted = postings.kinds["contract"][:, import_wh.shape[1] :]
    left = posted[:, OPERATOR] + posted[:, NETWORK]
    words = "the operator's and the network's accounts minus (buyers' payments - receipts)"
    _hold("f", words, "micro", left - kept, first_slot)
    gap = posted[:, NETWORK] - contracts.network_u
    _hold("f", "the network's account minus its charges on contracts", "micro", gap, first_slot)


def _check_entries(postings: Postings, first_slot: int) -> None:
    """Laws (d) and (e): every kind sums to zero, touches its own accounts only, and is what the lines say."""
    if tuple(postings.kinds) != LEDGER_KINDS:
        raise MarketError(f"postings are of kinds {tuple(postings.kinds)}, not {LEDGER_KINDS}")
    lines = postings.lines
    size = postings.residual_wh.shape[1]
    member_lines: dict[str, tuple[Int, ...]] = {
        "contract": (lines.local_bought, lines.local_sold),
        "residual": (lines.retail_bought, lines.retail_sold),
        "network": (lines.network,),
        "levies": (lines.levies,),
        "losses": (),
    }
    for kind, posted in postings.kinds.items():
        _hold("d", f"sum of all accounts of kind {kind}", "micro", posted.sum(axis=1), first_slot)
        for account in range(posted.shape[1] - size):
            if account not in _COUNTERPARTS[kind]:
                _hold("e", f"kind {kind} in a foreign account", "micro", posted[:, size + account], first_slot)
        gap = posted[:, :size]
        for line in member_lines[kind]:
            gap = gap + line
        if gap.any():
            t, i = (int(k) for k in np.argwhere(gap)[0])
            words = f"kind {kind}: member {i}'s posting and its bill line differ"
            _refuse("e", words, "micro", t + first_slot, gap[t, i])


def _hold(law: str, words: str, unit: str, gap: Int, first_slot: int) -> None:
    if gap.any():
        t = int(np.flatnonzero(gap)[0])
        _refuse(law, words, unit, t + first_slot, gap[t])


def _refuse(law: str, words: str, unit: str, slot: int, gap: np.int64) -> None:
    raise MarketError(
        f"slot {slot}: law ({law}) of settlement is broken: {words}: {int(gap)} {unit}, not 0",
        remedy="this is a defect of the rule or of its settlement, not of the scenario; please report it",
    )
