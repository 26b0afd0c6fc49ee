"""What sources can give and take, what they are told in both states, and how long the stored energy will last.

Towards the floor of its charge a source may be drawn on ever less, and at the floor not at all: what the loads then
draw too much is an ordinary deficit, shed by priority, long before the source would trip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Source, Switch
from controllers.microgrid.knowledge import Knowledge
from controllers.microgrid.settings import Settings

_QUARTER_H = 0.25


LONG_H = 1000.0
"""Beyond this nothing to speak of is drawn from the store [h]."""


def taper(soc: float | None, settings: Settings, more_soc: float = 0.0) -> float:
    """Share of its power that a store of this charge may give, 0..1: 0 at the floor, 1 at ``taper_soc`` above it.

    ``more_soc`` raises the floor: what is asked before a load comes back. A source without a store gives all.
    """
    if soc is None:
        return 1.0
    above = soc - settings.floor_soc - more_soc
    return min(1.0, max(0.0, above / settings.taper_soc)) if settings.taper_soc > 0.0 else float(above > 0.0)


def give_kw(know: Knowledge, source: Source, settings: Settings, more_soc: float = 0.0) -> float:
    """What a source may give [kW, >= 0]."""
    return max(0.0, source.discharge_kw) * taper(know.soc(source), settings, more_soc)


def take_kw(know: Knowledge, source: Source, settings: Settings) -> float:
    """What a source may take [kW, >= 0]: tapers to nothing at the ceiling; nothing if its charge was never known."""
    soc = know.soc(source)
    if soc is None or (source.soc is None and soc <= 0.0):
        return 0.0
    room = (settings.ceiling_soc - soc) / settings.taper_soc if settings.taper_soc > 0.0 else settings.ceiling_soc - soc
    return max(0.0, source.charge_kw) * min(1.0, max(0.0, room))


def forming_able(context: Context) -> list[Source]:
    """Sources that hold the island or can at once: they run, can form, and have not failed to."""
    return [source for source in context.formers() if context.know.running(source)]


def followers(context: Context) -> list[Source]:
    """Running sources that do not form and are not about to."""
    able = {source.id for source in forming_able(context)}
    return [s for s in context.image.sources if s.id not in able and context.know.running(s)]


def following_kw(context: Context) -> float:
    """What the followers give now [kW, negative if they draw]; nothing while the voltage is down or it is not known."""
    if not context.know.alive:
        return 0.0
    return sum(0.0 if s.p_kw is None else min(-s.p_kw, s.discharge_kw) for s in followers(context))


def curtail(context: Context) -> None:
    """Tell the followers how much they may give: what is drawn and what the forming sources may take.

    All are cut in the same ratio. Stores among them share what is drawn with the forming ones by what each may give.
    """
    s, know, now = context.settings, context.know, context.now
    others = followers(context)
    if not others or context.image.now_s - now.curtail_s < s.secondary_s - 1e-9:
        return
    now.curtail_s = context.image.now_s
    drawn = know.drawn_kw()
    stores = [source for source in others if know.soc(source) is not None]
    rest = [source for source in others if know.soc(source) is None]
    gives = {source.id: give_kw(know, source, s) for source in (*stores, *forming_able(context))}
    room = (drawn + sum(take_kw(know, source, s) for source in forming_able(context))) * (1.0 - s.shed_margin)
    possible = sum(source.discharge_kw for source in rest)
    share = min(1.0, room / possible) if possible > 0.0 else 1.0
    for source in rest:
        value = -source.discharge_kw * share
        # Whatever it may give at most is told once; how much the sun lets it is its own affair.
        told = context.ledger.set_value(source.id, Do.POWER)
        if told is None and share >= 1.0 and not _stands_still(source):
            continue
        context.ledger.want(
            context.image, Do.POWER, source.id, value, "what the island can use", tolerance=0.02 * source.rating_kw
        )
    net = max(0.0, drawn - sum(max(0.0, -(source.p_kw or 0.0)) for source in rest))
    total = sum(gives.values())
    for source in stores:
        value = -net * gives[source.id] / total if total > 0.0 else 0.0
        context.ledger.want(
            context.image, Do.POWER, source.id, value, "its share of the island", tolerance=0.02 * source.rating_kw
        )


def _stands_still(source: Source) -> bool:
    """Whether a source gives nothing: by night, or because its fallback has put it to 0."""
    return source.p_kw is not None and abs(source.p_kw) <= 0.01 * source.rating_kw


def release(context: Context) -> None:
    """Connected: what an island held back, or a fallback put to 0, may give all again; the grid takes it.

    Of a good grid only. Stores are the market's then, and told nothing here.
    """
    know, image = context.know, context.image
    if not know.grid_good or image.switch is not Switch.CLOSED:
        return
    for source in image.sources:
        if source.can_form or know.soc(source) is not None or not know.running(source):
            continue
        if context.ledger.set_value(source.id, Do.POWER) is not None or _stands_still(source):
            most = -source.discharge_kw
            context.ledger.want(
                image, Do.POWER, source.id, most, "the grid takes it", tolerance=0.02 * source.rating_kw
            )


def reserve_kwh(context: Context) -> float:
    """Energy that is kept for an island [kWh]: ``reserve_h`` hours of the blocks up to ``reserve_priority``."""
    s = context.settings
    kept = [load for load in context.image.loads if load.priority <= s.reserve_priority]
    return s.reserve_h * sum(context.know.load_kw(load) for load in kept)


def reserve_soc(context: Context) -> float:
    """The same as state of charge, alike for all forming stores: floor plus reserve, at most the ceiling.

    The market has to leave this much: it is told with the news `reserve`.
    """
    s = context.settings
    capacity = sum(x.capacity_kwh or 0.0 for x in context.formers() if context.know.soc(x) is not None)
    if capacity <= 0.0:
        return s.floor_soc
    return min(s.ceiling_soc, s.floor_soc + reserve_kwh(context) / capacity)


def keep_reserve(context: Context) -> None:
    """Connected: fill forming stores that are below the reserve; above it they are the market's, and told nothing.

    Needs a grid that is known to be good. Filling ends ``restore_soc`` above the reserve, so that it does not chatter.
    """
    s, know, filling = context.settings, context.know, context.now.filling
    if not know.grid_good or context.image.switch is not Switch.CLOSED:
        return
    wanted, ledger = reserve_soc(context), context.ledger
    for source in context.formers():
        if source.soc is None or not know.running(source) or know.forming(source):
            filling.pop(source.id, None)
            continue
        if source.soc < wanted and not filling.get(source.id):
            filling[source.id] = True
            context.say("reserve", f"{source.id} is below its reserve", device=source.id, soc=round(wanted, 4))
        elif filling.get(source.id) and source.soc >= min(wanted + s.restore_soc, s.ceiling_soc - s.taper_soc):
            filling[source.id] = False
            context.say("reserve", f"{source.id} has its reserve again", device=source.id, soc=round(wanted, 4))
        if filling.get(source.id):
            value = s.reserve_charge_share * take_kw(know, source, s)
            ledger.want(
                context.image, Do.POWER, source.id, value, "below the reserve", tolerance=0.05 * source.rating_kw
            )
        elif source.id in filling:
            ledger.want(context.image, Do.POWER, source.id, 0.0, "the reserve is full")
            if (source.id, Do.POWER) in ledger.acknowledged or ledger.failed(source.id, Do.POWER):
                del filling[source.id]


def hours_left(stored_kwh: float, room_kwh: float, forecast_kw: Sequence[float], then_kw: float) -> float:
    """Hours until the stored energy is used up; infinite if it never is.

    Parameters
    ----------
    stored_kwh
        Usable energy now, above the floor.
    room_kwh
        What fits in beyond it; more is lost.
    forecast_kw
        Net load of each quarter hour from now on, load-signed.
    then_kw
        Net load after the forecast's end.
    """
    energy, most = max(0.0, stored_kwh), max(0.0, stored_kwh) + max(0.0, room_kwh)
    for i, kw in enumerate(forecast_kw):
        if kw > 0.0 and energy <= kw * _QUARTER_H:
            return i * _QUARTER_H + energy / kw
        energy = min(most, energy - kw * _QUARTER_H)
    if then_kw <= 0.0:
        return math.inf
    return len(forecast_kw) * _QUARTER_H + energy / then_kw


def energy_left(context: Context) -> float | None:
    """`hours_left` of this island; None if the charge of one of its stores is not known."""
    s, know, image = context.settings, context.know, context.image
    stores = [x for x in image.sources if x.capacity_kwh is not None and know.running(x)]
    if any(x.soc is None for x in stores):
        return None
    kwh = sum((x.capacity_kwh or 0.0) * max(0.0, (x.soc or 0.0) - s.floor_soc) for x in stores)
    room = sum((x.capacity_kwh or 0.0) * max(0.0, s.ceiling_soc - (x.soc or 0.0)) for x in stores)
    rest = [x for x in image.sources if x.capacity_kwh is None]
    net = know.drawn_kw() - sum(max(0.0, -(x.p_kw or 0.0)) for x in rest)
    forecast = image.forecast_kw
    return hours_left(kwh, room, forecast, sum(forecast) / len(forecast) if forecast else net)


def tell_energy(context: Context) -> None:
    """News of the energy forecast, every ``energy_news_s``."""
    now = context.now
    if context.image.now_s - now.energy_s < context.settings.energy_news_s:
        return
    now.energy_s = context.image.now_s
    hours = energy_left(context)
    if hours is None:
        context.say("energy", "how long stored energy lasts is not known", hours="unknown")
    elif not any((x.soc or 0.0) > context.settings.floor_soc for x in context.image.sources if x.soc is not None):
        context.say("energy", "no energy is stored above the floor", hours="0.00")
    elif hours > LONG_H:
        context.say("energy", f"stored energy lasts more than {LONG_H:.0f} h above the floor", hours="long")
    else:
        context.say("energy", f"stored energy lasts {hours:.2f} h above the floor", hours=f"{hours:.2f}")


def start_others(context: Context) -> None:
    """In a healthy island: start, one at a time, what ran before, and all that stands still when charge is low."""
    know, ledger = context.know, context.ledger
    if not know.quiet() or any(ledger.pending(source.id, Do.START) for source in context.image.sources):
        return
    socs = [know.soc(s) for s in forming_able(context)]
    known = [soc for soc in socs if soc is not None]
    s = context.settings
    low = bool(known) and min(known) < s.floor_soc + 2.0 * s.taper_soc
    for source in sorted(context.image.sources, key=lambda x: (not x.can_form, x.id)):
        wanted = source.running is False and (source.id in context.memory.resume or low)
        if wanted and ledger.want(context.image, Do.START, source.id, why="the island is up"):
            return
