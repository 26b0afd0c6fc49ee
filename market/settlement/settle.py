"""Settlement of a window: contracts and meters in, double entries and bill lines out (market-rules 4.2)."""

from __future__ import annotations

import numpy as np

from core.errors import MarketError
from market.rounding import (
    Exact,
    is_small,
    level_amounts_u,
    line_amounts_u,
    price_plane,
    round_pool,
    round_ratio,
    two_price_lines_u,
)
from market.settlement.columns import (
    NETWORK,
    OPERATOR,
    RETAILER,
    STATE,
    SYSTEM_ACCOUNTS,
    Bool,
    Charges,
    Contracts,
    Int,
    Lines,
    Postings,
)
from market.settlement.residuals import ResidualRule, Residuals, settle_residuals


def settle_contracts(
    import_wh: Int,
    export_wh: Int,
    contracts: Contracts,
    retail_u: Int,
    feed_in_u: Int,
    charges: Charges,
    *,
    residuals: ResidualRule | None = None,
    active: Bool | None = None,
    rank: Int | None = None,
    loss_wh: Int | None = None,
    loss_price_u: Int | int = 0,
) -> Postings:
    """Settle a window of contracts against the meters.

    Parameters
    ----------
    import_wh, export_wh
        Metered energy, int64 ``(S, B)``, >= 0; net = import - export.
    contracts
        Positions and their money, from `contracts_from_pool` or `contracts_from_trades`.
    retail_u, feed_in_u
        Each member's own prices [micro-currency per kWh], broadcastable to ``(S, B)``.
    charges
        Network charges and levies.
    residuals
        How deviations are settled; default: individually with the retailer.
    active
        ``(S, B)``: who takes part in the market; the others' residuals are always individual. Default: everybody.
    rank
        ``(B,)`` position of each member's id in ASCII order (ties of the netted pool). Default: members are in order.
    loss_wh, loss_price_u
        Technical losses ``(S,)`` and their price: the network pays the retailer.

    Raises
    ------
    MarketError
        If shapes or signs are wrong, or an amount is too big to be held.
    """
    shape = _same_meters(import_wh, export_wh)
    if contracts.bought_wh.shape != shape:
        raise MarketError(f"contracts of shape {contracts.bought_wh.shape} do not fit meters of shape {shape}")
    residual_wh = import_wh - export_wh - contracts.bought_wh + contracts.sold_wh
    settled = settle_residuals(
        residual_wh,
        contracts,
        retail_u,
        feed_in_u,
        rule=residuals or ResidualRule(),
        active=active,
        rank=np.arange(shape[1]) if rank is None else rank,
    )
    return _post(import_wh, export_wh, contracts, residual_wh, settled, charges, loss_wh, loss_price_u)


def settle_sharing(
    import_wh: Int,
    export_wh: Int,
    local_wh: Int,
    pay_num: Exact,
    pay_den: Exact,
    retailer_num: Exact,
    retail_u: Int,
    feed_in_u: Int,
    charges: Charges,
    *,
    active: Bool | None = None,
    rank: Int | None = None,
    loss_wh: Int | None = None,
    loss_price_u: Int | int = 0,
    standing: Contracts | None = None,
) -> Postings:
    """Settle a window of a meter-based pool that deals with the retailer as one (2.11 to 2.14).

    The members' whole payments are rounded as a pool: the buyers' total and the retailer's line half to even, the
    sellers' total is the buyers' minus the retailer's line. Of each payment, what its own retailer would have taken for
    the energy that no neighbour delivered is booked as ``residual``, the rest as ``contract``: the two always add up to
    the rule's payment.

    Parameters
    ----------
    local_wh
        ``(S, B)`` >= 0: what a buyer got from, or a seller gave to, neighbours; at most its net.
    pay_num, pay_den
        ``(S, B)`` over ``(S,)``: each member's exact payment, its part of the retailer's bill included; + pays.
    retailer_num
        ``(S,)`` over ``pay_den``: exact amount due to the retailer; equals the sum of ``pay_num``.
    standing
        Contracts whose energy was taken out of the meters before they were shared.

    The other parameters are those of `settle_contracts`. Members that are not ``active`` settle with their retailer.

    Raises
    ------
    MarketError
        If payments and the retailer's bill differ, or local energy exceeds a member's net.
    """
    shape = _same_meters(import_wh, export_wh)
    net = import_wh - export_wh
    if standing is not None:
        net = net - standing.bought_wh + standing.sold_wh
    inside = np.ones(shape, np.bool_) if active is None else active
    _check_sharing(net, local_wh, pay_num, retailer_num, inside)
    ranks = np.arange(shape[1]) if rank is None else rank
    buys = inside & ((net > 0) | ((net == 0) & (pay_num > 0)))
    sells = inside & ((net < 0) | ((net == 0) & (pay_num < 0)))
    paid = round_pool(pay_num, pay_den, buys, ranks)
    due = round_ratio(retailer_num, pay_den)
    received = round_pool(-pay_num, pay_den, sells, ranks, paid.sum(axis=1) - due)
    # the rest with one's own retailer, for members inside and outside alike
    bought, sold = np.where(net > 0, local_wh, 0), np.where(net < 0, local_wh, 0)
    residual_wh = net - bought + sold
    own = two_price_lines_u(residual_wh, price_plane(retail_u, shape), price_plane(feed_in_u, shape))
    pooled = np.where(inside, own, 0)
    contract_u = paid - received - pooled
    paid_local, received_local = np.where(sells, 0, contract_u), np.where(sells, -contract_u, 0)
    none = np.zeros(shape[0], np.int64)
    contracts = Contracts(
        bought, sold, paid_local, received_local, none, bought, sold, none, none, due - pooled.sum(axis=1)
    )  # fmt: skip
    # in energy the pool meets the retailer as one: only its net crosses
    pool_net, outside = np.where(inside, residual_wh, 0).sum(axis=1), np.where(inside, 0, residual_wh)
    settled = Residuals(
        own,
        own.sum(axis=1),
        np.maximum(pool_net, 0) + np.maximum(outside, 0).sum(axis=1),
        np.maximum(-pool_net, 0) + np.maximum(-outside, 0).sum(axis=1),
    )
    if standing is not None:
        contracts = contracts.plus(standing)
    return _post(import_wh, export_wh, contracts, residual_wh, settled, charges, loss_wh, loss_price_u)


def no_market_lines(import_wh: Int, export_wh: Int, retail_u: Int, feed_in_u: Int, charges: Charges) -> Lines:
    """Bill lines without a market, from the same meters: everything with the retailer, at the full network level.

    Equal, to the last micro, to `settle_contracts` without contracts. Shapes as there.
    """
    shape = _same_meters(import_wh, export_wh)
    net = import_wh - export_wh
    zero = np.zeros(shape, np.int64)
    own = two_price_lines_u(net, price_plane(retail_u, shape), price_plane(feed_in_u, shape))
    network = line_amounts_u(charges.full_import_u, import_wh)
    if np.any(charges.full_export_u):
        network = network + line_amounts_u(charges.full_export_u, export_wh)
    return Lines(
        local_bought=zero,
        local_sold=zero,
        retail_bought=np.where(net > 0, own, 0),
        retail_sold=np.where(net < 0, own, 0),
        network=network,
        levies=line_amounts_u(charges.levies_u, import_wh),
    )


def no_market_bill_u(import_wh: Int, export_wh: Int, retail_u: Int, feed_in_u: Int, charges: Charges) -> Int:
    """What each member would have paid in each slot without a market, ``(S, B)`` [micro-currency], + pays."""
    return no_market_lines(import_wh, export_wh, retail_u, feed_in_u, charges).total


def _same_meters(import_wh: Int, export_wh: Int) -> tuple[int, int]:
    if import_wh.ndim != 2 or import_wh.shape != export_wh.shape:
        raise MarketError(f"import of shape {import_wh.shape} and export of {export_wh.shape} must be (slots, members)")
    for name, wh in (("import", import_wh), ("export", export_wh)):
        if wh.dtype != np.int64:
            raise MarketError(f"metered {name} must be whole Wh (int64), not {wh.dtype}")
        if wh.size and int(wh.min()) < 0:
            t, i = (int(k) for k in np.argwhere(wh < 0)[0])
            raise MarketError(f"slot {t} of the window, member {i}: metered {name} is negative ({wh[t, i]} Wh)")
    return import_wh.shape[0], import_wh.shape[1]


def _check_sharing(net: Int, local_wh: Int, pay_num: Exact, retailer_num: Exact, inside: Bool) -> None:
    shared = np.where(inside, local_wh, 0)
    if (shared != local_wh).any() or (shared > np.abs(net)).any() or (local_wh < 0).any():
        wrong = (shared != local_wh) | (shared > np.abs(net)) | (local_wh < 0)
        t, i = (int(k) for k in np.argwhere(wrong)[0])
        raise MarketError(
            f"slot {t} of the window, member {i}: {local_wh[t, i]} Wh shared locally of a net of {net[t, i]} Wh"
            + ("" if inside[t, i] else " by somebody outside the market")
        )
    exact = pay_num if is_small(pay_num, max(pay_num.shape[1], 1)) else pay_num.astype(object)
    gap = np.where(inside, exact, 0).sum(axis=1) - retailer_num
    if gap.any():
        t = int(np.flatnonzero(gap)[0])
        raise MarketError(
            f"slot {t} of the window: the members' payments and the retailer's bill differ by {gap[t]} (numerators)",
            remedy="a rule that shares meters must be strongly budget balanced",
        )


def _post(
    import_wh: Int,
    export_wh: Int,
    contracts: Contracts,
    residual_wh: Int,
    residuals: Residuals,
    charges: Charges,
    loss_wh: Int | None,
    loss_price_u: Int | int,
) -> Postings:
    """Steps 5 to 8 of market-rules 4.2: charges, levies, losses, double entries."""
    n_slots, n_members = import_wh.shape
    network = level_amounts_u(
        import_wh, contracts.local_bought_wh, charges.full_import_u, charges.local_import_u
    )  # fmt: skip
    if np.any(charges.full_export_u) or np.any(charges.local_export_u):
        network += level_amounts_u(export_wh, contracts.local_sold_wh, charges.full_export_u, charges.local_export_u)
    levies = line_amounts_u(charges.levies_u, import_wh)
    losses = np.zeros(n_slots, np.int64) if loss_wh is None else np.asarray(loss_wh, np.int64)
    if losses.shape != (n_slots,):
        raise MarketError(f"losses of shape {losses.shape} do not fit {n_slots} slots")
    price = np.broadcast_to(np.asarray(loss_price_u, np.int64), (n_slots,))
    loss_u = line_amounts_u(price[:, None], losses[:, None])[:, 0]

    contract_kind = _kind(n_slots, n_members, contracts.contract_u)
    contract_kind[:, n_members + RETAILER] = contracts.retailer_u
    contract_kind[:, n_members + OPERATOR] = contracts.operator_u
    contract_kind[:, n_members + NETWORK] = contracts.network_u
    residual_kind = _kind(n_slots, n_members, residuals.amount_u)
    residual_kind[:, n_members + RETAILER] = residuals.retailer_u
    network_kind = _kind(n_slots, n_members, network)
    network_kind[:, n_members + NETWORK] = network.sum(axis=1)
    levies_kind = _kind(n_slots, n_members, levies)
    levies_kind[:, n_members + STATE] = levies.sum(axis=1)
    losses_kind = _kind(n_slots, n_members, None)
    losses_kind[:, n_members + NETWORK] = -loss_u
    losses_kind[:, n_members + RETAILER] = loss_u
    surplus = residual_wh < 0
    return Postings(
        kinds={
            "contract": contract_kind,
            "residual": residual_kind,
            "network": network_kind,
            "levies": levies_kind,
            "losses": losses_kind,
        },
        lines=Lines(
            local_bought=contracts.paid_u,
            local_sold=-contracts.received_u,
            retail_bought=np.where(surplus, 0, residuals.amount_u),
            retail_sold=np.where(surplus, residuals.amount_u, 0),
            network=network,
            levies=levies,
        ),
        contracts=contracts,
        residual_wh=residual_wh,
        retailer_sold_wh=residuals.sold_wh + contracts.retailer_sold_wh,
        retailer_bought_wh=residuals.bought_wh + contracts.retailer_bought_wh,
        loss_wh=losses,
    )


def _kind(n_slots: int, n_members: int, paid_u: Int | None) -> Int:
    """An empty posting, or one in which the members pay ``paid_u``."""
    posted = np.zeros((n_slots, n_members + len(SYSTEM_ACCOUNTS)), np.int64)
    if paid_u is not None:
        np.negative(paid_u, out=posted[:, :n_members])
    return posted
