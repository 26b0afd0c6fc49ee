"""Readings of all devices as one frozen image: whatever is not good, not new or not believed is None."""

from __future__ import annotations

from collections.abc import Mapping

from controllers.microgrid.image import Image, Load, Order, Side, Source, Switch
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.site import W_PER_KW, LoadDevice, MicrogridSite, SourceDevice
from controllers.microgrid.unit import Unit
from controllers.microgrid.wording import NOMINAL_V

_RUNS = 2.0
_FED_PU = 0.5


def image_of(
    site: MicrogridSite,
    units: Mapping[str, Unit],
    now_s: float,
    nominal_hz: float,
    orders: tuple[Order, ...] = (),
    acknowledged: frozenset[int] = frozenset(),
    refused: frozenset[int] = frozenset(),
) -> Image:
    """The image of this instant.

    Parameters
    ----------
    site, units
        What is there, and what is known of it, by device; the switch is ``switch``.
    now_s
        The loop's clock [s].
    nominal_hz
        Nominal frequency [Hz].
    orders, acknowledged, refused
        As in the image.
    """
    switch = units[SWITCH]
    island = _side(switch, "island")
    return Image(
        now_s=now_s,
        grid=_side(switch, "grid"),
        island=island,
        switch=_contacts(switch),
        exchange_kw=_kw(switch.good("w")),
        angle_deg=switch.good("x_angle_deg"),
        sources=tuple(_source(one, units[one.id], nominal_hz) for one in site.sources),
        loads=tuple(_load(one, units[one.id], island.v_pu) for one in site.loads),
        orders=orders,
        acknowledged=acknowledged,
        refused=refused,
    )


def _kw(watts: float | None) -> float | None:
    return None if watts is None else watts / W_PER_KW


def _side(switch: Unit, which: str) -> Side:
    volts = switch.good(f"x_v_{which}")
    return Side(
        v_pu=None if volts is None else volts / NOMINAL_V,
        f_hz=switch.good(f"x_hz_{which}"),
        phases_right=switch.flag(f"x_phases_{which}"),
    )


def _contacts(switch: Unit) -> Switch:
    """Two contacts that have to differ."""
    closed, opened = switch.flag("connected"), switch.flag("x_open")
    if closed is None or opened is None or closed is opened:
        return Switch.UNKNOWN
    return Switch.CLOSED if closed else Switch.OPEN


def _source(told: SourceDevice, unit: Unit, nominal_hz: float) -> Source:
    rating_kw = told.rating_w / W_PER_KW
    most_w = told.rating_w if told.discharge_w is None else told.discharge_w
    give_w, take_w, droop = unit.good("x_give_w"), unit.good("x_take_w"), unit.good("x_droop")
    stores = told.capacity_wh is not None
    return Source(
        id=told.id,
        rating_kw=rating_kw,
        can_form=told.can_form,
        forming=unit.flag("x_forming"),
        running=unit.flag("state", _RUNS),
        p_kw=_kw(unit.good("w")),
        q_kvar=_kw(unit.good("var")),
        charge_kw=(told.charge_w if take_w is None else min(told.charge_w, take_w)) / W_PER_KW,
        discharge_kw=(most_w if give_w is None else min(most_w, give_w)) / W_PER_KW,
        soc=unit.good("soc") if stores else None,
        capacity_kwh=None if told.capacity_wh is None else told.capacity_wh / W_PER_KW,
        droop_hz_per_kw=None if droop is None or not told.can_form else droop * nominal_hz / rating_kw,
    )


def _load(told: LoadDevice, unit: Unit, island_pu: float | None) -> Load:
    on = unit.flag("state")
    fed = island_pu is None or island_pu >= _FED_PU
    # What it would draw, where it cannot draw now: it remembers what it drew last.
    power_w = unit.good("w") if on is not False and fed else unit.good("x_last_w")
    inrush_w = unit.good("x_inrush_w") if told.inrush_w is None else told.inrush_w
    return Load(
        id=told.id,
        priority=told.priority,
        p_kw=None if power_w is None else max(0.0, power_w) / W_PER_KW,
        on=on,
        inrush_kw=0.0 if inrush_w is None else inrush_w / W_PER_KW,
    )
