"""Columns that go into and come out of the settlement of a window: S slots, B members, A = B + 4 accounts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

SYSTEM_ACCOUNTS = ("retailer", "operator", "network", "state")
"""Accounts behind the members', in this order: account ``B`` is the retailer, ``B + 3`` the state."""

LEDGER_KINDS = ("contract", "residual", "network", "levies", "losses")
"""Kinds of posting in a slot; each sums to zero over all accounts in every slot."""

RETAILER, OPERATOR, NETWORK, STATE = range(4)
"""Offsets of the system accounts behind the members."""

BILL_LINES = ("local_bought", "local_sold", "retail_bought", "retail_sold", "network", "levies")
"""What a member's slot consists of; the first of each pair is a purchase, the second a sale."""


@dataclass(frozen=True, slots=True)
class Charges:
    """Network charges and levies [micro-currency per kWh], int64, each broadcastable to ``(S, B)``.

    ``local_*`` is paid for energy delivered locally, ``full_*`` for the rest; ``levies_u`` per kWh of import, to the
    state.
    """

    full_import_u: Int
    local_import_u: Int
    full_export_u: Int
    local_export_u: Int
    levies_u: Int

    @classmethod
    def none(cls) -> Charges:
        """No charges at all."""
        zero = np.zeros((1, 1), np.int64)
        return cls(zero, zero, zero, zero, zero)


@dataclass(frozen=True, slots=True)
class Contracts:
    """Positions frozen at the gate, with their money already rounded. int64, ``(S, B)`` or ``(S,)``.

    The retailer is a party only with the in-book backstop, and where a meter-based rule leaves it a rounding rest.
    """

    bought_wh: Int  # (S, B) >= 0
    sold_wh: Int  # (S, B) >= 0
    paid_u: Int  # (S, B) for what was bought; negative at negative prices
    received_u: Int  # (S, B) for what was sold
    operator_u: Int  # (S,) what the operator keeps; negative = it subsidises
    local_bought_wh: Int  # (S, B) part of bought_wh that neighbours delivered
    local_sold_wh: Int  # (S, B)
    retailer_sold_wh: Int  # (S,) by contract
    retailer_bought_wh: Int  # (S,)
    retailer_u: Int  # (S,) what the retailer receives under contracts
    network_u: Int = None  # type: ignore[assignment]  # (S,) what the network operator keeps; default: nothing

    def __post_init__(self) -> None:
        if self.network_u is None:
            object.__setattr__(self, "network_u", np.zeros_like(self.operator_u))  # type: ignore[unreachable]

    @property
    def contract_u(self) -> Int:
        """What each member pays for its contracts, ``(S, B)``; negative = receives."""
        return self.paid_u - self.received_u

    @classmethod
    def none(cls, n_slots: int, n_members: int) -> Contracts:
        """No contracts: everything will be residual."""
        plane, line = np.zeros((n_slots, n_members), np.int64), np.zeros(n_slots, np.int64)
        return cls(plane, plane, plane, plane, line, plane, plane, line, line, line)

    def plus(self, other: Contracts) -> Contracts:
        """Both together: positions and money add up.

        What is sold on is no local delivery: of a member that bought in one and sold in the other, the two local
        energies are netted.
        """
        both = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        near = both["local_bought_wh"] - both["local_sold_wh"]
        resold = (both["local_bought_wh"] > 0) & (both["local_sold_wh"] > 0)
        both["local_bought_wh"] = np.where(resold, np.maximum(near, 0), both["local_bought_wh"])
        both["local_sold_wh"] = np.where(resold, np.maximum(-near, 0), both["local_sold_wh"])
        return Contracts(**both)

    def charged(self, charge_u: Int) -> Contracts:
        """The same, with ``charge_u`` (S, B) taken from what sellers receive and given to the network."""
        return replace(self, received_u=self.received_u - charge_u, network_u=self.network_u + charge_u.sum(axis=1))

    def less(self, other: Contracts) -> Contracts:
        """What is left without ``other``, which was added before."""
        return Contracts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def with_network(self, operator_u: Int) -> Contracts:
        """What is left over goes to the network operator, but for ``operator_u`` (S,)."""
        return replace(self, operator_u=operator_u, network_u=self.network_u + self.operator_u - operator_u)


@dataclass(frozen=True, slots=True)
class Lines:
    """What each member pays in a slot, by line of its bill: int64 ``(S, B)`` [micro-currency], + pays.

    Purchases and sales are told apart by the role in the deal, not by the sign of the money, so a purchase at a
    negative price stays a (negative) purchase.
    """

    local_bought: Int
    local_sold: Int
    retail_bought: Int
    retail_sold: Int
    network: Int
    levies: Int

    @property
    def total(self) -> Int:
        """Sum of the lines, ``(S, B)``."""
        sold = self.local_sold + self.retail_sold
        return self.taxable + sold

    @property
    def taxable(self) -> Int:
        """Lines on which value added tax is due: what is bought, and the charges. A household's sales are not."""
        return self.local_bought + self.retail_bought + self.network + self.levies


@dataclass(frozen=True, slots=True)
class Postings:
    """The settled window: double entries by kind, the members' lines, and the energies behind them.

    ``kinds[k]`` is int64 ``(S, B + 4)`` over members, then ``SYSTEM_ACCOUNTS``; an account grows by what it receives.
    """

    kinds: dict[str, Int]
    lines: Lines
    contracts: Contracts
    residual_wh: Int  # (S, B) metered net minus contract position; + is a shortfall
    retailer_sold_wh: Int  # (S,) all energy the retailer sold, contracts and residuals
    retailer_bought_wh: Int  # (S,)
    loss_wh: Int  # (S,)

    @property
    def accounts_u(self) -> Int:
        """Change of each account over all kinds, ``(S, B + 4)``."""
        total = np.zeros_like(self.kinds["contract"])
        for posted in self.kinds.values():
            total += posted
        return total
