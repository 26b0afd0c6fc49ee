"""Planned island: bring the exchange over the switch to nothing, let the sources form beside the grid, open."""

from __future__ import annotations

from controllers.microgrid import dispatch, sharing, shedding
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Source, Switch


def near(context: Context) -> bool:
    """Whether the exchange is known and so small that we go on (``balance_aim`` of the 2 %)."""
    s, exchange = context.settings, context.image.exchange_kw
    return exchange is not None and abs(exchange) <= s.balance_share * s.balance_aim * s.rating_kw


def balanced(context: Context) -> bool:
    """Whether to open now (G1): balanced for the dwell, every able source forming, loads within what they give.

    Once a cycle. Sources form beside the grid only here, and only while the grid is known to be good.
    """
    s = context.settings
    able = dispatch.forming_able(context)
    formed = bool(able) and all(source.forming is True for source in able)
    here = near(context) and formed and context.image.switch is Switch.CLOSED and context.know.grid_there
    return context.know.lasts("balanced", here, s.balance_dwell_s)


def balance(context: Context) -> None:
    """Lead the exchange to nothing: shed what the island could not carry, curtail what it could not take."""
    s, know, now, image = context.settings, context.know, context.now, context.image
    able = dispatch.forming_able(context)
    if all(_obeys(context, source) for source in able):
        shedding.shed(context, "the island could not carry it")
    dispatch.curtail(context)
    if not know.grid_there:
        return
    if know.lasts("near", near(context), s.balance_dwell_s):
        for source in able:
            if source.forming is not True and source.p_kw is not None and image.grid.f_hz is not None:
                sharing.set_droop(context, source)
                reference = _reference(context, source, source.p_kw, image.grid.f_hz)
                context.ledger.want(image, Do.FORM, source.id, reference, "hold the island when the switch opens")
    if image.exchange_kw is None or image.now_s - now.balanced_at_s < s.balance_every_s - 1e-9:
        return
    now.balanced_at_s = image.now_s
    if abs(image.exchange_kw) <= 0.5 * s.balance_share * s.balance_aim * s.rating_kw:
        return
    for source, p_kw in _powers(context, able, -s.balance_gain * image.exchange_kw):
        # Told even where nothing changes: what it answers shows whether it obeys.
        if source.forming is False and not context.ledger.pending(source.id, Do.FORM):
            context.ledger.want(image, Do.POWER, source.id, round(p_kw, 4), "no exchange with the grid")
        elif source.forming and image.grid.f_hz is not None:
            reference = _reference(context, source, p_kw, image.grid.f_hz)
            context.ledger.want(image, Do.REFERENCE, source.id, reference, "no exchange with the grid")


def _obeys(context: Context, source: Source) -> bool:
    """Whether it has shown that it takes orders: nobody's load is shed for an island that will not come about."""
    return source.forming is True or (source.id, Do.POWER) in context.ledger.acknowledged


def _reference(context: Context, source: Source, p_kw: float, f_hz: float) -> float:
    """No-load frequency at which a source gives ``-p_kw`` at frequency ``f_hz``: ref = f + m P."""
    m = source.droop_hz_per_kw if source.droop_hz_per_kw is not None else sharing.droop_hz_per_kw(context, source)
    limit = context.settings.secondary_hz
    nominal = context.settings.nominal_hz
    return round(min(nominal + limit, max(nominal - limit, f_hz - m * p_kw)), 4)


def _powers(context: Context, able: list[Source], change_kw: float) -> list[tuple[Source, float]]:
    """New power of each source (load-signed) so that together they change by ``change_kw``, by the room each has.

    Above 0 the sources supply less or charge more, up to what each may take; below 0 they supply more.
    """
    known = [(source, source.p_kw) for source in able if source.p_kw is not None]
    rooms = []
    for source, p_kw in known:
        if change_kw > 0.0:
            rooms.append(max(0.0, dispatch.take_kw(context.know, source, context.settings) - p_kw))
        else:
            rooms.append(max(0.0, p_kw + dispatch.give_kw(context.know, source, context.settings)))
    total = sum(rooms)
    part = min(1.0, abs(change_kw) / total) * (1.0 if change_kw > 0.0 else -1.0) if total > 0.0 else 0.0
    return [(source, p_kw + part * room) for (source, p_kw), room in zip(known, rooms, strict=True)]
