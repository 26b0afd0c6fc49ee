"""Forming sources: leader first or all at once, droop in the ratio of ratings, and the secondary control above it.

Primary (in the device): f = ref_i - m_i P_i, P_i what it supplies. With m_i = D / rating_i and equal references every
source carries the same share of its rating. Secondary (here): ref_i = f* + shift + trim_i; the shift is integral and
common, so it moves the frequency and not the sharing; the trim moves power towards the wanted share s_i and not the
frequency. Voltage likewise, without a trim.
"""

from __future__ import annotations

from controllers.microgrid import dispatch
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Source

_DEAD_BAND_HZ = 0.01
_DEAD_BAND_PU = 0.005
_TELL_HZ = 0.003
_TELL_PU = 0.002


def droop_hz_per_kw(context: Context, source: Source) -> float:
    """The droop that this source is to have [Hz per kW]: ``droop_share`` of nominal frequency at its rating."""
    return context.settings.droop_share * context.settings.nominal_hz / source.rating_kw


def shares(context: Context, forming: list[Source], supplied_kw: float) -> dict[str, float]:
    """Which share of the common power each forming source is to carry: by rating, tapered by what its store allows.

    Supplying, a source towards its floor carries less and at the floor nothing; charging, the same at the ceiling. If
    all are at their limit, by rating.
    """
    s, know = context.settings, context.know
    weights = {}
    for source in forming:
        soc = know.soc(source)
        if supplied_kw >= 0.0:
            weight = dispatch.taper(soc, s)
        else:
            weight = dispatch.take_kw(know, source, s) / source.charge_kw if source.charge_kw > 0.0 else 0.0
        weights[source.id] = source.rating_kw * weight
    if sum(weights.values()) <= 0.0:
        weights = {source.id: source.rating_kw for source in forming}
    total = sum(weights.values())
    return {device: weight / total for device, weight in weights.items()}


def begin(context: Context) -> None:
    """At the beginning of an island: the shift that will hold nominal frequency at the power that is drawn now."""
    s, know = context.settings, context.know
    able = dispatch.forming_able(context)
    rating = sum(source.rating_kw for source in able)
    drawn = know.drawn_kw() - dispatch.following_kw(context)
    shift = s.droop_share * s.nominal_hz * drawn / rating if rating > 0.0 else 0.0
    context.now.shift_hz = min(s.secondary_hz, max(-s.secondary_hz, shift))
    context.now.shift_pu = 0.0
    context.now.trims = {}


def form(context: Context, sources: list[Source], why: str) -> None:
    """Tell these sources to form, droop first; and who took over by itself the same reference, so that all share."""
    reference = context.settings.nominal_hz + context.now.shift_hz
    for source in sources:
        if source.forming is True and context.ledger.set_value(source.id, Do.REFERENCE) is None:
            context.ledger.want(context.image, Do.REFERENCE, source.id, round(reference, 4), "as the others")
        if source.forming is not True and not context.ledger.pending(source.id, Do.FORM):
            set_droop(context, source)
            context.ledger.want(context.image, Do.FORM, source.id, round(reference, 4), why)


def set_droop(context: Context, source: Source) -> None:
    """Set a source's droop if it is not known to be right within 1 %."""
    wanted = droop_hz_per_kw(context, source)
    if source.droop_hz_per_kw is None or abs(source.droop_hz_per_kw / wanted - 1.0) > 0.01:
        context.ledger.want(context.image, Do.DROOP, source.id, wanted, "in the ratio of ratings")


def rest(context: Context) -> None:
    """Out of the grid's company: stores that charge by an order from before would pull the island down."""
    for source in context.image.sources:
        told = context.ledger.pending(source.id, Do.FORM)
        if context.know.soc(source) is not None and source.forming is False and source.running and not told:
            context.ledger.want(context.image, Do.POWER, source.id, 0.0, "no set-point from before the outage")


def form_island(context: Context) -> None:
    """Hold an open island: on a dead bus one leader alone, on a live one, or behind one that forms already, all.

    Never with the switch anything but open: a source that forms onto a dead grid feeds it.
    """
    if not context.switch_open:
        return
    able = dispatch.forming_able(context)
    if context.know.alive or any(source.forming for source in able):
        form(context, able, "hold the island together")
    elif context.image.island.v_pu is not None and not any(context.ledger.pending(x.id, Do.FORM) for x in able):
        form(context, able[:1], "lead the island")


def steer(context: Context, target_hz: float, target_pu: float, *, every_s: float, gain_per_s: float) -> None:
    """Secondary control: move the references of the forming sources so that the island reaches the targets.

    Does nothing while frequency or voltage is unknown: a blind integrator runs away. While one source has not taken
    its reference, an island of its own leaves the others where they are: equal references are what shares the power.
    """
    s, know, now, image = context.settings, context.know, context.now, context.image
    f, v = image.island.f_hz, image.island.v_pu
    elapsed = image.now_s - now.secondary_s
    if elapsed < every_s - 1e-9 or f is None or v is None or not know.alive:
        return
    elapsed = min(elapsed, 2.0 * every_s)
    now.secondary_s = image.now_s
    forming = [source for source in image.sources if know.forming(source)]
    behind = [x for x in forming if context.ledger.behind(x.id, Do.REFERENCE)]
    hold = every_s >= s.secondary_s and 0 < len(behind) < len(forming)
    elapsed = 0.0 if hold else elapsed
    if abs(target_hz - f) > _DEAD_BAND_HZ or every_s < s.secondary_s:
        now.shift_hz += gain_per_s * elapsed * (target_hz - f)
        now.shift_hz = min(s.secondary_hz, max(-s.secondary_hz, now.shift_hz))
    if abs(target_pu - v) > _DEAD_BAND_PU:
        now.shift_pu += gain_per_s * elapsed * (target_pu - v)
        now.shift_pu = min(s.secondary_pu, max(-s.secondary_pu, now.shift_pu))
    trims = _trims(context, forming, elapsed)
    for source in behind if hold else forming:
        set_droop(context, source)
        # Without a set-point told before (a restarted supervisor) the source stands somewhere else: tell it anyway.
        reference = target_hz + now.shift_hz + trims.get(source.id, 0.0)
        context.ledger.want(
            image, Do.REFERENCE, source.id, round(reference, 4), "secondary control", tolerance=_TELL_HZ
        )
        voltage = round(target_pu + now.shift_pu, 4)
        if context.ledger.set_value(source.id, Do.VOLTAGE) is None and abs(voltage - 1.0) <= _TELL_PU:
            continue
        context.ledger.want(image, Do.VOLTAGE, source.id, voltage, "secondary control", tolerance=_TELL_PU)


def _trims(context: Context, forming: list[Source], elapsed_s: float) -> dict[str, float]:
    """What each reference differs from the common one [Hz], so that each source carries its share."""
    s, know, now = context.settings, context.know, context.now
    if any(source.p_kw is None for source in forming) or len(forming) < 2:
        return dict(now.trims)
    supplied = -sum(source.p_kw or 0.0 for source in forming)
    wanted = shares(context, forming, supplied)
    full = s.droop_share * s.nominal_hz
    even = full * supplied / sum(source.rating_kw for source in forming)
    together = tuple(source.id for source in forming)
    if together != now.together:
        # Who has just joined gives what it gave alone: nothing is to be learnt from that.
        now.together, now.together_s, now.trims = together, know.now_s, {}
    f, settled_s = context.image.island.f_hz, 3.0 * s.secondary_s
    calm = f is not None and abs(f - s.nominal_hz) < s.steady_hz and know.quiet()
    calm = calm and min(context.in_state_s(), know.now_s - now.together_s) > settled_s
    trims = {}
    for source in forming:
        m = source.droop_hz_per_kw if source.droop_hz_per_kw is not None else droop_hz_per_kw(context, source)
        target = wanted[source.id] * supplied
        error = target + (source.p_kw or 0.0)
        # What droop alone would do differently is known beforehand; what then still is wrong is integrated.
        if calm and abs(error) > 0.01 * source.rating_kw:
            learnt = now.trims.get(source.id, 0.0) + s.secondary_gain_per_s * elapsed_s * m * error
            now.trims[source.id] = min(full, max(-full, learnt))
        trims[source.id] = m * target - even + now.trims.get(source.id, 0.0)
    return trims


def sharing_error(forming: list[Source]) -> float | None:
    """Largest distance of a source's share of its rating from the mean share, over the mean; None if unknown (G3)."""
    if any(source.p_kw is None for source in forming) or not forming:
        return None
    mean = sum(source.p_kw or 0.0 for source in forming) / sum(source.rating_kw for source in forming)
    if mean == 0.0:
        return 0.0
    return max(abs((source.p_kw or 0.0) / source.rating_kw / mean - 1.0) for source in forming)


def island(context: Context) -> None:
    """The secondary control of an island of its own: nominal frequency and voltage; and news if sharing stays off."""
    s, know = context.settings, context.know
    steer(context, s.nominal_hz, 1.0, every_s=s.secondary_s, gain_per_s=s.secondary_gain_per_s)
    forming = [source for source in context.image.sources if know.forming(source)]
    error = sharing_error(forming)
    loaded = -sum(source.p_kw or 0.0 for source in forming) > 0.1 * sum(source.rating_kw for source in forming)
    off = error is not None and error > s.sharing_share
    by_rating = all(dispatch.taper(know.soc(source), s) >= 1.0 for source in forming)
    if know.lasts("sharing-off", off and loaded and by_rating, s.sharing_news_s):
        know.forget("sharing-off")
        context.say("sharing", f"power is shared {100.0 * (error or 0.0):.0f} % off the ratings", error=error)
