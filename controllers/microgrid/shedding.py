"""Shedding and restoring blocks of load: the lowest priority goes first and comes back last.

A deficit is what the blocks draw beyond what the forming sources can give by themselves, less a margin, and what the
others give now. It is shed within the cycle that sees it, whole blocks from the lowest priority up, never one for its
better size. A block comes back alone, when it has fitted with a larger margin for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

from controllers.microgrid import dispatch
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Load, Switch


def shed_order(loads: Sequence[Load]) -> list[Load]:
    """Blocks in the order in which they go: largest priority number first; within one, the largest block first."""
    return sorted(loads, key=lambda load: (-load.priority, -(load.p_kw or 0.0), load.id))


def blocks_for(loads: Sequence[tuple[Load, float]], deficit_kw: float) -> list[Load]:
    """The first blocks of the shedding order that together draw at least the deficit.

    Parameters
    ----------
    loads
        Blocks that are on and have not failed to go off, with what each draws [kW].
    deficit_kw
        What has to go [kW]; nothing goes for 0 or less.
    """
    gone: list[Load] = []
    draws = {load.id: kw for load, kw in loads}
    for load in shed_order([load for load, _ in loads]):
        if deficit_kw <= 1e-9:
            break
        gone.append(load)
        deficit_kw -= draws[load.id]
    return gone


def leaving_kw(context: Context) -> float:
    """What blocks still draw that have been told to go off and have not failed to [kW]."""
    know = context.know
    return sum(
        know.load_kw(load) for load in context.image.loads if know.on(load) and context.ledger.pending(load.id, Do.SHED)
    )


def deficit_kw(context: Context) -> float:
    """What the blocks that stay draw beyond what can be given [kW]; negative: room. Once a cycle."""
    s, know, image = context.settings, context.know, context.image
    able = dispatch.forming_able(context)
    most = sum(dispatch.give_kw(know, source, s) for source in able) * (1.0 - s.shed_margin)
    coming = sum(
        know.load_kw(load) for load in image.loads if not know.on(load) and context.ledger.pending(load.id, Do.RESTORE)
    )
    drawn = know.drawn_kw() + coming
    deficit = drawn - dispatch.following_kw(context) - most
    measured = [(source, source.p_kw) for source in able if know.forming(source)]
    if image.switch is Switch.OPEN and measured and all(p is not None for _, p in measured):
        given = sum(-p for _, p in measured if p is not None)
        forming_most = sum(dispatch.give_kw(know, source, s) for source, _ in measured)
        # Sources about to join relieve these; a single one above its limit for long is a deficit whatever the sum says.
        joining = len(able) > len(measured)
        if know.quiet() and not joining:
            deficit = max(deficit, given - forming_most)
        over = max(-(p or 0.0) - source.discharge_kw * 1.02 for source, p in measured)
        if know.lasts("overload", over > 0.0, s.overload_s):
            deficit = max(deficit, over)
    deficit -= leaving_kw(context)
    f = image.island.f_hz
    low = image.switch is Switch.OPEN and know.alive and f is not None and f < s.nominal_hz - s.under_hz
    if know.lasts("under-frequency", low, s.cycle_s) and not leaving_kw(context):
        deficit = max(deficit, 1e-3)
    return deficit


def shed(context: Context, why: str) -> float:
    """Shed what is too much now; returns the deficit that was seen [kW]."""
    know, ledger = context.know, context.ledger
    deficit = deficit_kw(context)
    if deficit <= 1e-9:
        return deficit
    ready = [
        (load, know.load_kw(load))
        for load in context.image.loads
        if (know.on(load) or ledger.pending(load.id, Do.RESTORE))
        and not ledger.failed(load.id, Do.SHED)
        and not ledger.pending(load.id, Do.SHED)
    ]
    for load in blocks_for(ready, deficit):
        _shed_one(context, load, why, deficit)
    return deficit


def _shed_one(context: Context, load: Load, why: str, deficit: float) -> None:
    now, s = context.now, context.settings
    if context.ledger.want(context.image, Do.SHED, load.id, why=why) is None:
        return
    kw = context.know.load_kw(load)
    context.say(
        "shed",
        f"{load.id} is shed: {why}",
        load=load.id,
        priority=load.priority,
        kw=round(kw, 3),
        deficit=round(deficit, 3),
    )
    came_s = now.restored_s.pop(load.id, -1e9)
    if context.image.now_s - came_s < s.restore_again_s:
        times = now.relapses.get(load.id, (0, 0.0))[0] + 1
        now.relapses[load.id] = (times, context.image.now_s + s.restore_again_s * 2.0 ** min(times - 1, 6))
    now.next_restore_s = context.image.now_s + s.restore_dwell_s
    now.fits = ""


def shed_all(context: Context, why: str) -> None:
    """Shed every block, lowest priority first."""
    for load in shed_order(context.image.loads):
        if load.on is not False or context.ledger.pending(load.id, Do.RESTORE):
            context.ledger.want(context.image, Do.SHED, load.id, why=why)


def next_block(context: Context, most_kw: float) -> Load | None:
    """The block whose turn it is to come back: the highest priority that is off.

    Passed over are only blocks whose contactor failed, and those that would not fit if they were alone (``most_kw``):
    else one block too large would keep everybody dark.
    """
    ledger = context.ledger
    off = [load for load in context.image.loads if load.on is False and not ledger.pending(load.id, Do.SHED)]
    off = [load for load in off if not ledger.failed(load.id, Do.RESTORE) and load.id not in context.memory.broken]
    off = [load for load in off if max(context.know.load_kw(load), load.inrush_kw) <= most_kw]
    return min(off, key=lambda load: (load.priority, context.know.load_kw(load), load.id), default=None)


def fits(context: Context, load: Load, *, margin: float) -> bool:
    """Whether the island could carry this block as well, with its inrush, and keep ``margin`` of the forming power."""
    s, know = context.settings, context.know
    able = [source for source in dispatch.forming_able(context) if know.forming(source)]
    most = sum(dispatch.give_kw(know, source, s, s.restore_soc) for source in able)
    drawn = know.drawn_kw() - dispatch.following_kw(context)
    steady = drawn + know.load_kw(load) <= most * (1.0 - margin)
    # Inrush may take what forming sources give now, but for its own margin; it is gone before energy matters.
    return steady and drawn + max(load.inrush_kw, know.load_kw(load)) <= most * (1.0 - s.inrush_margin)


def restore(context: Context) -> None:
    """In the island: bring back the next block if it has fitted for long enough, one at a time."""
    s, know, now, at = context.settings, context.know, context.now, context.image.now_s
    if any(context.ledger.pending(load.id, do) for load in context.image.loads for do in (Do.RESTORE, Do.SHED)):
        return
    able = [source for source in dispatch.forming_able(context) if know.forming(source)]
    most = sum(dispatch.give_kw(know, source, s) for source in able) + dispatch.following_kw(context)
    load = next_block(context, most * (1.0 - s.restore_margin))
    fit = load is not None and know.healthy and fits(context, load, margin=s.restore_margin)
    if fit and load is not None and load.id != now.fits:
        know.forget("fits")
    now.fits = load.id if fit and load is not None else ""
    lasting = know.lasts("fits", fit, s.restore_dwell_s)
    if not lasting or load is None or at < now.relapses.get(load.id, (0, -1e9))[1]:
        return
    if not know.quiet():
        return
    if context.ledger.want(context.image, Do.RESTORE, load.id, why="it fits again"):
        now.restored_s[load.id] = at
        know.forget("fits")
        context.say("restore", f"{load.id} is restored", load=load.id, priority=load.priority)


def restore_connected(context: Context) -> None:
    """On a good grid: bring blocks back by priority, one every ``connected_restore_s``."""
    at = context.image.now_s
    if not context.know.grid_good or at < context.now.next_restore_s:
        return
    if any(context.ledger.pending(load.id, Do.RESTORE) for load in context.image.loads):
        return
    load = next_block(context, float("inf"))
    if load is not None and context.ledger.want(context.image, Do.RESTORE, load.id, why="the grid supplies it"):
        context.now.next_restore_s = at + context.settings.connected_restore_s
        context.say("restore", f"{load.id} is restored by the grid", load=load.id, priority=load.priority)
