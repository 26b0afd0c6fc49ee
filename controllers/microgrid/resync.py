"""Back to the grid: turn the island's voltage onto the grid's, and close only within the window.

Limits of frequency, voltage and angle: IEEE 1547-2018 table 5; the grid has to have been within table 4 for 300 s. The
angle is judged now and where it will be when the contacts touch. A synchronism-check relay beside the switch has to do
the same by itself: this software is no substitute for it.
"""

from __future__ import annotations

from controllers.microgrid import sharing
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Image, Side, State, Switch
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.settings import Settings, SyncWindow


def wrapped(angle_deg: float) -> float:
    """The same angle within -180..180."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def obstacles(image: Image, settings: Settings, window: SyncWindow) -> tuple[str, ...]:
    """Everything that forbids closing the switch between a live island and a live grid; empty if nothing does.

    Unknown readings forbid it. `window` may be narrower than the one of the settings.
    """
    found = []
    if image.switch is not Switch.OPEN:
        found.append(f"the switch reads {image.switch}")
    found += _side("grid", image.grid, settings.enter_v_low_pu, settings.enter_v_high_pu)
    found += _side("island", image.island, settings.island_v_low_pu, settings.island_v_high_pu)
    f, fg, v, vg = image.island.f_hz, image.grid.f_hz, image.island.v_pu, image.grid.v_pu
    if fg is not None and not -settings.enter_hz_below <= fg - settings.nominal_hz <= settings.enter_hz_above:
        found.append(f"grid frequency {fg:.3f} Hz")
    if v is not None and vg is not None and abs(v - vg) > window.dv_pu:
        found.append(f"voltages differ by {v - vg:+.3f} p.u.")
    if f is not None and fg is not None and abs(f - fg) > window.df_hz:
        found.append(f"frequencies differ by {f - fg:+.3f} Hz")
    angle = image.angle_deg
    if angle is None:
        found.append("the angle is unknown")
    elif f is not None and fg is not None:
        at_touch = wrapped(angle + 360.0 * (f - fg) * settings.close_delay_s)
        if max(abs(wrapped(angle)), abs(at_touch)) > window.angle_deg:
            found.append(f"angle {wrapped(angle):+.1f} degrees, {at_touch:+.1f} when the contacts touch")
    if not any(source.forming for source in image.sources):
        found.append("no source is known to hold the island")
    return tuple(found)


def _side(name: str, side: Side, low: float, high: float) -> list[str]:
    found = []
    if side.phases_right is not True:
        found.append(f"the phase order of the {name} is {'wrong' if side.phases_right is False else 'unknown'}")
    if side.v_pu is None or side.f_hz is None:
        found.append(f"voltage or frequency of the {name} is unknown")
    elif not low <= side.v_pu <= high:
        found.append(f"voltage of the {name} {side.v_pu:.3f} p.u.")
    return found


def ready(context: Context) -> bool:
    """Whether to close now: in the narrower window for the dwell, and the grid back for long enough. Every cycle."""
    s = context.settings
    aim = SyncWindow(*(x * s.window_aim for x in (s.window.df_hz, s.window.dv_pu, s.window.angle_deg)))
    inside = not obstacles(context.image, s, aim)
    return context.know.lasts("sync", inside, s.sync_dwell_s) and context.know.grid_back_s >= s.enter_service_s


def drive(context: Context) -> None:
    """Lead frequency, voltage and angle of the island onto the grid's; nominal values unless the grid is good."""
    s, image = context.settings, context.image
    target_hz, target_pu = s.nominal_hz, 1.0
    if context.know.grid_good and image.grid.f_hz is not None and image.grid.v_pu is not None:
        target_hz, target_pu = image.grid.f_hz, image.grid.v_pu
    if image.angle_deg is not None and context.know.grid_good:
        turn = -s.sync_hz_per_deg * wrapped(image.angle_deg)
        target_hz += min(s.sync_hz, max(-s.sync_hz, turn))
    sharing.steer(context, target_hz, target_pu, every_s=s.sync_every_s, gain_per_s=s.secondary_gain_per_s)


def dead_bus_obstacles(context: Context) -> tuple[str, ...]:
    """Everything that forbids closing a good grid onto the island as a dead bus; unknown readings forbid it."""
    s, image, found = context.settings, context.image, []
    if not s.dead_bus_close:
        found.append("dead_bus_close is off")
    if image.switch is not Switch.OPEN:
        found.append(f"the switch reads {image.switch}")
    if not context.know.dead:
        found.append("the island is not known to be dead")
    if not context.know.grid_good or context.know.grid_back_s < s.enter_service_s:
        found.append("the grid has not been good for long enough")
    if image.grid.phases_right is not True:
        found.append("the grid's phase order is not known to be right")
    found += [f"{x.id} is not known to stand still" for x in image.sources if x.running is not False or x.forming]
    found += [f"{load.id} is not known to be off" for load in image.loads if load.on is not False]
    return tuple(found)


def close(context: Context, why: str) -> bool:
    """Tell the switch to close if, judged once more on this very image, it may; whether it was told."""
    dead = context.state is State.BLACK
    found = dead_bus_obstacles(context) if dead else obstacles(context.image, context.settings, context.settings.window)
    if found:
        context.say("close-refused", "the switch may not close: " + "; ".join(found))
        return False
    if context.ledger.want(context.image, Do.CLOSE, SWITCH, why=why) is None:
        return False
    context.now.closing = True
    return True
