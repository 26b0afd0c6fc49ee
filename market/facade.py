"""The market's front door: ``clear``, ``share`` and ``rules``. Works alone, without a network or a scenario."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from core.errors import MarketError
from market.book import Book, Context, Meters
from market.orders import RETAILER, Order, admit
from market.registry import (
    BidRule,
    MeterRule,
    Rule,
    broken_plugins,
    check_named,
    make_rule,
    rule_classes,
    rule_info,
)
from market.result import Result, RuleInfo, Shared, verify_result, verify_shared
from market.rules.by_slot import guarded
from market.terms import within_terms

_TERMS = "choose a rule that declares ir, or energy_classes or preference_price for classes; or change the terms"


def clear(
    rule: str | Rule | type[Rule],
    orders: Iterable[Order],
    *,
    context: Context | Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Result:
    """Clear one call market.

    Parameters
    ----------
    rule
        A registered name, a rule class, or a rule with its parameters.
    orders
        Any order of the list gives the same result. Unusable orders are left out and listed in
        ``result.diagnostics["rejections"]`` with a reason code.
    context
        Retailer's prices, price band, slot, backstop: a `Context` or a mapping of its fields.
    **parameters
        The rule's parameters.

    Returns
    -------
    Result
        Exact; checked against the laws of market-rules 0.6.

    Raises
    ------
    MarketError
        For an unknown rule, a parameter out of range, a rule that takes meters, a rule that is not applicable, or one
        that breaks a law or raises anything.
    """
    ready = make_rule(rule, parameters)
    clearing = getattr(ready, "clear", None)
    if clearing is None:
        raise MarketError(f"{ready.name} works on meters, not on orders", remedy=f"share({ready.name!r}, net_wh=...)")
    around = Context.of(context)
    p_min, p_max = around.band
    reserved = frozenset({RETAILER}) if around.in_book else frozenset()
    flags = ready.flags if isinstance(ready, BidRule) else frozenset()
    if around.terms:
        orders = within_terms(orders, around.terms)  # type: ignore[assignment]
    continuous = isinstance(ready, BidRule) and ready.continuous
    accepted, rejections = admit(
        orders, p_min_u=p_min, p_max_u=p_max, reserved=reserved, flags=flags, continuous=continuous
    )
    book = Book.from_orders(accepted)
    if (
        isinstance(ready, BidRule)
        and (reason := guarded(ready, around.slot, ready.applicable, book, around)) is not None
    ):
        raise MarketError(f"{ready.name} is not applicable: {reason}", remedy="choose another rule or change the book")
    for agent in sorted(set(book.agent_ids) & set(around.terms)):
        if isinstance(ready, Rule) and (reason := ready.cannot_honour(around.terms[agent])) is not None:
            raise MarketError(f"{ready.name} is not applicable: {reason}, as {agent!r} demands", remedy=_TERMS)
    result: Result = guarded(ready, around.slot, clearing, book, around)
    verify_result(result, book)
    return replace(
        result,
        rule=result.rule or ready.name,
        diagnostics={**result.diagnostics, "rejections": tuple(rejections), "rejected": len(rejections)},
    )


def _tariff(name: str, value: Any, members: tuple[str, ...]) -> tuple[int, ...]:
    """One price for all, or a mapping with a price for every member."""
    if isinstance(value, Mapping):
        if missing := [m for m in members if m not in value]:
            raise MarketError(f"{name} has no price for {', '.join(missing)}", remedy="give every member's tariff")
        return tuple(_whole(f"{name}[{m}]", value[m]) for m in members)
    return (_whole(name, value),) * len(members)


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return int(value.__index__())
    except (AttributeError, TypeError) as error:
        raise MarketError(
            f"{name} is {value!r}, not a whole number",
            remedy="give energies in Wh and prices in micro-currency per kWh (0.30 EUR/kWh = 300_000)",
        ) from error


def share(
    rule: str | Rule | type[Rule],
    net_wh: Mapping[str, int],
    retail_u: int | Mapping[str, int],
    feed_in_u: int | Mapping[str, int],
    *,
    slot: int = 0,
    **parameters: Any,
) -> Shared:
    """Share one slot's metered energy.

    Parameters
    ----------
    rule
        A registered name, a rule class, or a rule with its parameters.
    net_wh
        Member -> net energy [Wh]: positive draws, negative feeds in.
    retail_u, feed_in_u
        The retailer's prices [micro-currency per kWh], for all or by member.
    slot
        Slot index, for shares that vary in time.
    **parameters
        The rule's parameters.

    Returns
    -------
    Shared
        Exact. Exact ties of whole watt-hours go to the member first in ASCII order.

    Raises
    ------
    MarketError
        As `clear`; also for numbers that are not whole, for a member without a tariff, and for parameters that name
        somebody who is not a member.
    """
    ready = make_rule(rule, parameters)
    if not isinstance(ready, MeterRule):
        raise MarketError(f"{ready.name} works on orders, not on meters", remedy=f"call clear({ready.name!r}, orders)")
    members = _members(net_wh)
    check_named(ready, members)
    meters = Meters(
        members,
        tuple(_whole(f"net_wh[{m}]", net_wh[m]) for m in members),
        _tariff("retail_u", retail_u, members),
        _tariff("feed_in_u", feed_in_u, members),
        slot,
    )
    return share_meters(ready, meters)


def _members(net_wh: Any) -> tuple[str, ...]:
    """Ids in ASCII order; MarketError for anything but a mapping of text ids."""
    remedy = 'give a mapping of text ids to whole Wh, for example {"alice": 4000, "bob": -5000}'
    if not isinstance(net_wh, Mapping):
        raise MarketError(f"net_wh is a {type(net_wh).__name__}, not a mapping", remedy=remedy)
    if strange := [m for m in net_wh if not isinstance(m, str)]:
        raise MarketError(f"net_wh has the id {strange[0]!r}, which is not text", remedy=remedy)
    return tuple(sorted(net_wh))


def share_meters(rule: MeterRule, meters: Meters) -> Shared:
    """`share` of ready meters. They may lack members that parameters name: those are outside the market in this slot.

    Raises
    ------
    MarketError
        If the rule is not applicable, breaks a law or raises anything.
    """
    if (reason := guarded(rule, meters.slot, rule.applicable, meters)) is not None:
        raise MarketError(f"{rule.name} is not applicable: {reason}", remedy="choose another rule or mend the tariffs")
    result = guarded(rule, meters.slot, rule.share, meters)
    verify_shared(result, meters)
    return replace(result, rule=result.rule or rule.name)


def rules() -> list[RuleInfo]:
    """Every registered rule with its declared properties, parameters and source, by name.

    Warns of plug-ins that could not be loaded; their rules are missing in the list.
    """
    known = rule_classes()
    for sentence in broken_plugins().values():
        warnings.warn(f"{sentence}; its rules are missing, mend or uninstall its package", stacklevel=2)
    return [rule_info(cls) for cls in known.values()]
