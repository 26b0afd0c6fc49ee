"""An independent judge of the microgrid: G1 to G6 of the requirements, read off the trace of the world.

Written from the requirements' text alone. Figures: 2 % of rating (G1), two cycles of 100 ms (G2), 5 % of ratio (G3),
IEEE 1547-2018 table 5 up to 500 kVA (G5: 0.3 Hz, 10 %, 20 degrees), EN 50160 (G3: 50 Hz +- 1 %).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controllers.microgrid.image import Command, Do, State, Switch
from grid.island import kernel as k
from grid.island.world import Event
from tests.controllers.microgrid.harness import CYCLE_S, Row, Trace

BALANCE = 0.02
IN_TIME_S = 0.2
RATIO = 0.05
BAND_HZ = 0.5
SYNC_HZ, SYNC_PU, SYNC_DEG, DWELL_S = 0.3, 0.10, 20.0, 0.4
FLOOR = 0.15
EPS = 1e-6
AGE_S = 0.06
"""The oldest that an image may be when it is acted on (harness)."""


@dataclass(frozen=True)
class Finding:
    """A requirement that was not met, when, and what was seen.

    ``knowable`` False: what spoilt it happened after the last image that the supervisor could act on; counted apart.
    """

    rule: str
    t_s: float
    text: str
    knowable: bool = True


Rule = Callable[[Trace], Iterator[Finding]]


def said(row: Row, do: Do) -> list[Command]:
    """The commands of this kind in a row's decision."""
    return [c for c in row.decision.commands if c.do is do]


def faulty(trace: Trace, t_s: float, reach_s: float = 1.0, *, device: str | None = None) -> bool:
    """Whether a measurement or a command path fails around ``t_s`` (of ``device``; every fault counts without)."""
    s = trace.story
    for x in s.blind:
        if x.a_s - reach_s <= t_s <= x.b_s + reach_s and (device is None or x.field.endswith(f":{device}")):
            return True
    for d in s.deaf:
        if d.a_s - reach_s <= t_s <= d.b_s + reach_s and (device is None or d.device in {device, "*"}):
            return True
    return device is None and any(a - reach_s <= t_s <= b + reach_s for a, b, _ in s.feedback)


def happened(trace: Trace, a_s: float, b_s: float, *what: str) -> bool:
    """Whether an event whose name starts with one of ``what`` fell into [a, b]."""
    return any(a_s <= e.t_s <= b_s and e.what.startswith(what) for e in trace.events)


def forming_can(row: Row) -> float:
    """What the running sources that can form give at most [kW]."""
    s = row.truth.sources
    ready = (s[:, k.S_CAN_FORM] > 0) & (s[:, k.S_RUN] == k.RUNNING)
    ready &= (s[:, k.S_CAPACITY] == 0) | (s[:, k.S_ENERGY] > s[:, k.S_E_EMPTY])
    return float(np.sum(np.minimum(s[:, k.S_DISCHARGE], s[:, k.S_AVAILABLE])[ready]))


def grid_is_bad(row: Row) -> bool:
    """Whether what was seen of the grid is outside the interface protection's band, or not seen at all."""
    v, f = row.image.grid.v_pu, row.image.grid.f_hz
    return v is None or f is None or not (0.88 <= v <= 1.10 and 47.5 <= f <= 51.5)


def g1_balance(trace: Trace) -> Iterator[Finding]:
    """A planned opening only with the exchange within 2 % of rating; a healthy grid is left on order only."""
    limit = BALANCE * trace.story.rating_kw
    ordered = False
    for n, row in enumerate(trace.rows):
        ordered |= any(o.value == "island" for o in row.image.orders)
        recent = trace.rows[max(0, n - 15) : n + 1]
        if not said(row, Do.OPEN) or row.image.switch is not Switch.CLOSED or any(grid_is_bad(r) for r in recent):
            continue
        if row.decision.state in {State.LOCKOUT, State.RECONNECTING, State.BLACK} or any(
            o.value == "stop" for r in recent for o in r.image.orders
        ):
            continue
        x = row.image.exchange_kw
        if not ordered:
            yield Finding(
                "G1-unordered", row.t_s, f"a healthy grid is left without an order, state {row.decision.state}"
            )
        elif x is None or abs(x) > limit + EPS:
            yield Finding("G1-command", row.t_s, f"told to open at {x} kW, allowed {limit:.2f}")
        for e in trace.events:
            mine = e.what == "opened" and row.t_s <= e.t_s <= row.t_s + 0.3
            pushed = happened(trace, row.t_s - 0.2, e.t_s, "demand", "available", "grid", "tripped")
            if mine and abs(e.exchange_kw) > 1.5 * limit and not pushed:
                yield Finding("G1-opening", e.t_s, f"opened at {e.exchange_kw:.2f} kW, allowed {limit:.2f}")


def losses(trace: Trace) -> Iterator[tuple[int, Row]]:
    """(index of the first row that shows it, last good row) of each loss of a grid that fed the island."""
    good: Row | None = None
    for n, row in enumerate(trace.rows):
        shown = row.image.grid.v_pu is not None and row.image.grid.v_pu < 0.5
        left = row.image.switch is Switch.OPEN and not any(said(r, Do.OPEN) for r in trace.rows[max(0, n - 5) : n])
        if good is not None and (shown or left):
            if row.t_s - good.t_s < 0.35:
                yield n, good
            good = None
        if row.truth.closed and row.truth.live and not shown and row.image.switch is Switch.CLOSED:
            good = row


def g2_in_time(trace: Trace) -> Iterator[Finding]:
    """After a loss the deficit is shed, and a source told to form, within two cycles; nothing is shed without need."""
    for n, good in losses(trace):
        t0 = trace.rows[n].t_s
        window = [r for r in trace.rows[n:] if r.t_s <= t0 + IN_TIME_S + EPS]
        if faulty(trace, t0) or happened(trace, t0 - 1.5, t0 + 0.3, "welded", "demand", "available", "trip"):
            continue
        if len(window) < 3 or any(r.truth.bus[k.B_GV] > 0.5 for r in window):
            continue
        if good.decision.state not in {State.CONNECTED, State.PLANNED_OUT, State.RECONNECTING}:
            continue
        can = forming_can(good)
        shed = {c.device for r in window for c in said(r, Do.SHED)}
        loads = good.truth.loads
        drawn = {x.id: float(loads[j, k.L_P]) for j, x in enumerate(trace.story.spec.loads) if loads[j, k.L_ON] > 0}
        others = -float(np.sum(good.truth.p_kw[good.truth.sources[:, k.S_CAN_FORM] == 0]))
        kept = (1.0 + trace.story.spec.loss_share) * sum(p for name, p in drawn.items() if name not in shed)
        if kept - others > 1.03 * can + 0.05:
            yield Finding(
                "G2-deficit", t0, f"keeps {kept:.1f} kW, {others:.1f} kW from others, {can:.1f} kW can be formed"
            )
        gone = [x for x in trace.story.spec.loads if x.id in shed and x.id in drawn]
        low = [s[k.S_ENERGY] / s[k.S_CAPACITY] for s in good.truth.sources if s[k.S_CAPACITY] > 0]
        if gone and min(low, default=1.0) > 0.35:
            dear = min(gone, key=lambda x: x.priority)
            if kept + 1.02 * drawn[dear.id] < 0.6 * can:
                yield Finding("G2-needless", t0, f"sheds {dear.id} although {kept:.1f} + it is far below {can:.1f} kW")
        told = [c for r in window for c in said(r, Do.FORM)]
        self_forms = any(s.can_form and s.self_forms and s.running for s in trace.story.spec.sources)
        formed = np.any(good.truth.sources[:, k.S_MODE] == 1.0)
        seen = next((r.t_s for r in trace.rows[n:] if r.image.switch is Switch.OPEN), None)
        if any(o.value == "stop" for r in trace.rows[n : n + 10] for o in r.image.orders):
            continue
        later = [r for r in trace.rows[n:] if seen is not None and r.t_s <= max(t0, seen) + IN_TIME_S + EPS]
        told += [c for r in later for c in said(r, Do.FORM)]
        if can > 0 and seen is not None and not told and not self_forms and not formed:
            yield Finding("G2-forming", t0, "nobody was told to form")


def g2_order(trace: Trace) -> Iterator[Finding]:
    """No block of a higher priority is shed while one of a lower priority is kept."""
    asked: dict[str, float] = {}
    for row in trace.rows:
        sheds = said(row, Do.SHED)
        for c in sheds:
            asked[c.device] = row.t_s
        for c in said(row, Do.RESTORE):
            asked.pop(c.device, None)
        if not sheds:
            continue
        blocks = list(zip(trace.story.spec.loads, row.truth.loads, row.image.loads, strict=True))
        priority = {spec.id: spec.priority for spec, _, _ in blocks}
        kept = [
            spec
            for spec, d, seen in blocks
            if d[k.L_ON] > 0
            and seen.on
            and asked.get(spec.id, -9.0) < row.t_s - 1.0
            and d[k.L_STUCK] == 0
            and not faulty(trace, row.t_s, 25.0, device=spec.id)
        ]
        on = {spec.id for spec, d, _ in blocks if d[k.L_ON] > 0}
        for c in sheds:
            worse = [x.id for x in kept if x.priority > priority[c.device]]
            if c.device in on and worse:
                yield Finding(
                    "G2-order", row.t_s, f"sheds {c.device} (priority {priority[c.device]}) and keeps {worse}"
                )


def restore_order(trace: Trace) -> Iterator[Finding]:
    """No block comes back before one of a higher priority that needs no more and never failed."""
    shed_count: dict[str, int] = {}
    tried: set[str] = set()
    for row in trace.rows:
        blocks = list(zip(trace.story.spec.loads, row.truth.loads, row.image.loads, strict=True))
        for c in said(row, Do.SHED):
            shed_count[c.device] = shed_count.get(c.device, 0) + 1
        restored = {c.device for c in said(row, Do.RESTORE)}
        for spec, _, seen in blocks:
            if spec.id not in restored or seen.p_kw is None:
                continue
            for other, d, mark in blocks:
                before = other.priority < spec.priority and d[k.L_ON] == 0 and other.id not in restored | tried
                fits = mark.p_kw is not None and mark.p_kw <= seen.p_kw and mark.inrush_kw <= seen.inrush_kw
                fine = shed_count.get(other.id, 0) < 2 and d[k.L_STUCK] == 0 and not faulty(trace, row.t_s, 25.0)
                if before and fits and fine:
                    yield Finding("restore-order", row.t_s, f"{spec.id} comes back before {other.id}")
        tried |= restored


def steady(trace: Trace) -> Iterator[Row]:
    """The rows of an island in which nothing has happened for 3 s and no source that forms stands at a limit."""
    times = [e.t_s for e in trace.events]
    since, n = -1e9, 0
    for row in trace.rows:
        while n < len(times) and times[n] <= row.t_s:
            since, n = times[n], n + 1
        b, s = row.truth.bus, row.truth.sources
        if row.truth.closed or not row.truth.live or row.decision.state is not State.ISLANDED:
            since = row.t_s
        if row.t_s - since < 3.0 or abs(b[k.B_DFDT]) > 0.02 or _moves(trace, row):
            continue
        forming = (s[:, k.S_MODE] == 1.0) & (s[:, k.S_RUN] == k.RUNNING)
        p = s[forming, k.S_PE]
        top, low, slack = s[forming, k.S_DISCHARGE], -s[forming, k.S_CHARGE], 0.03 * s[forming, k.S_RATING]
        if np.all(p < top - slack) and np.all(p > low + slack):
            yield row


def _moves(trace: Trace, row: Row) -> bool:
    """Whether the sources that form give more than 1 % of their ratings more or less than a second ago."""
    i = round((row.t_s - trace.rows[0].t_s) / CYCLE_S)
    before = trace.rows[max(0, i - 10)].truth.sources
    s = row.truth.sources
    forming = s[:, k.S_MODE] == 1.0
    return bool(abs(np.sum(s[forming, k.S_PE] - before[forming, k.S_PE])) > 0.01 * np.sum(s[forming, k.S_RATING]))


def g3_sharing(trace: Trace) -> Iterator[Finding]:
    """Steady for 3 s: power shared as 1 / droop within 5 %, frequency in the band."""
    for row in steady(trace):
        b, s = row.truth.bus, row.truth.sources
        forming = (s[:, k.S_MODE] == 1.0) & (s[:, k.S_RUN] == k.RUNNING)
        p = s[forming, k.S_PE]
        stored = s[forming, k.S_CAPACITY] > 0
        soc = s[forming, k.S_ENERGY][stored] / s[forming, k.S_CAPACITY][stored]
        if abs(b[k.B_F] - 50.0) > BAND_HZ and not faulty(trace, row.t_s, 5.0):
            yield Finding("G3-band", row.t_s, f"{b[k.B_F]:.3f} Hz in a steady island")
        if np.sum(forming) < 2 or np.any(soc < FLOOR + 0.06) or np.any(soc > 0.89):
            continue
        share = 1.0 / s[forming, k.S_DROOP]
        share /= share.sum()
        due = share * p.sum()
        room = RATIO * np.maximum(np.abs(due), 0.1 * s[forming, k.S_RATING])
        if np.any(np.abs(p - due) > room + 0.02) and not faulty(trace, row.t_s, 10.0):
            yield Finding("G3-sharing", row.t_s, f"gives {np.round(p, 2)}, due {np.round(due, 2)} kW")


def g4_floor(trace: Trace) -> Iterator[Finding]:
    """No battery runs empty under load in the island; at the floor it is not drained on; a forecast is told."""
    for e in trace.events:
        if e.what == "tripped" and e.value == k.TRIP_EMPTY:
            row = next((r for r in reversed(trace.rows) if r.t_s <= e.t_s), None)
            under_load = row is not None and not row.truth.closed and np.any(row.truth.loads[:, k.L_ON] > 0)
            if under_load and not faulty(trace, e.t_s, 8.0):
                yield Finding("G4-trip", e.t_s, f"{e.device} tripped empty with loads on")
    below: dict[int, float] = {}
    for row in trace.rows:
        for i, s in enumerate(row.truth.sources):
            drains = s[k.S_CAPACITY] > 0 and s[k.S_ENERGY] < (FLOOR - 0.02) * s[k.S_CAPACITY]
            drains = drains and s[k.S_PE] > 0.02 * s[k.S_RATING] and not row.truth.closed and row.truth.live
            if not drains:
                below.pop(i, None)
            elif row.t_s - below.setdefault(i, row.t_s) > 2.0 and not faulty(trace, row.t_s, 8.0):
                others = row.truth.sources[:, k.S_CAPACITY] == 0
                if np.any(row.truth.loads[:, k.L_ON] > 0) and not np.any(row.truth.sources[others, k.S_MODE] == 1.0):
                    name = trace.story.spec.sources[i].id
                    yield Finding(
                        "G4-floor", row.t_s, f"{name} at {s[k.S_ENERGY] / s[k.S_CAPACITY]:.3f} gives {s[k.S_PE]:.1f} kW"
                    )
                    return
    stays = [r for r in trace.rows if r.decision.state is State.ISLANDED]
    if len(stays) > 100 and any(s.soc is not None for s in stays[-1].image.sources):
        words = [n for r in trace.rows for n in r.decision.news]
        if not any("energy" in n.kind or "forecast" in n.kind for n in words):
            yield Finding("G4-forecast", stays[-1].t_s, "no energy forecast was told in an island of 10 s and more")


def _apart(row: Row) -> tuple[float, float, float]:
    b = row.truth.bus
    return abs(b[k.B_V] - b[k.B_GV]), abs(b[k.B_F] - b[k.B_GF]), abs(b[k.B_ANGLE])


def _shown_apart(row: Row) -> bool:
    """Whether the image itself shows island and grid outside the window, or does not show them."""
    grid, island, angle = row.image.grid, row.image.island, row.image.angle_deg
    if None in {grid.v_pu, grid.f_hz, island.v_pu, island.f_hz, angle}:
        return True
    assert grid.v_pu is not None and grid.f_hz is not None and angle is not None
    assert island.v_pu is not None and island.f_hz is not None
    dv, df = abs(grid.v_pu - island.v_pu), abs(grid.f_hz - island.f_hz)
    return dv > SYNC_PU or df > SYNC_HZ or abs(angle) > SYNC_DEG + 2.0


def g5_closing(trace: Trace) -> Iterator[Finding]:
    """Contacts touch only inside the window after a dwell in it, on a good grid in the right order of phases."""
    for e in trace.events:
        if e.what == "closed":
            yield from _closing(trace, e)
    for row in trace.rows:
        if not said(row, Do.CLOSE):
            continue
        i = row.image
        seen = [i.grid.v_pu, i.grid.f_hz, i.island.v_pu, i.grid.phases_right]
        if i.island.v_pu is None or i.island.v_pu > 0.1:
            seen += [i.island.f_hz, i.angle_deg]
        if any(x is None for x in seen) or i.switch is Switch.UNKNOWN:
            yield Finding(
                "G5-blind", row.t_s, f"told to close without seeing: {i.grid}, {i.island}, {i.angle_deg}, {i.switch}"
            )


def _closing(trace: Trace, e: Event) -> Iterator[Finding]:
    before = [r for r in trace.rows if r.t_s <= e.t_s + EPS]
    if not before:
        return
    row = before[-1]
    b = row.truth.bus
    told = next((r.t_s for r in reversed(before) if said(r, Do.CLOSE)), e.t_s)
    if happened(trace, told - AGE_S, e.t_s - 1e-6, "grid", "tripped", "demand"):
        if e.value > 2.0:
            yield Finding("G5-window", e.t_s, f"surge {e.value:.1f} p.u.: the grid went on the way", knowable=False)
        return
    if b[k.B_GV] < k.DEAD_PU:
        yield Finding("G5-dead-grid", e.t_s, f"closed onto {b[k.B_GV]:.2f} p.u.")
        return
    if b[k.B_GPHASES] == 0.0:
        yield Finding("G5-phases", e.t_s, f"closed on the wrong order of phases, surge {e.value:.1f} p.u.")
        return
    if not 0.85 <= b[k.B_GV] <= 1.12 or not 49.0 <= b[k.B_GF] <= 50.6:
        yield Finding("G5-bad-grid", e.t_s, f"closed onto {b[k.B_GV]:.2f} p.u., {b[k.B_GF]:.2f} Hz")
    if e.v_pu < 0.1:
        return
    dv, df, da = abs(e.v_pu - b[k.B_GV]), abs(e.f_hz - b[k.B_GF]), abs(e.angle_deg)
    if dv > SYNC_PU or df > SYNC_HZ or da > SYNC_DEG:
        yield Finding(
            "G5-window", e.t_s, f"dv {dv:.3f} p.u., df {df:.3f} Hz, {da:.1f} degrees; surge {e.value:.2f} p.u."
        )
    for r, after in pairwise(trace.rows):
        if told - DWELL_S <= r.t_s <= told and not r.truth.closed:
            dv, df, da = _apart(r)
            if dv > SYNC_PU or df > SYNC_HZ or da > SYNC_DEG + 2.0:
                text = f"closed at {e.t_s:.2f} s, but {dv:.3f} p.u. {df:.3f} Hz {da:.1f} deg then"
                yield Finding("G5-dwell", r.t_s, text, knowable=_shown_apart(r) or _shown_apart(after))
                return


def site_faults(trace: Trace) -> Iterator[Finding]:
    """A switch that does not obey or contradicts itself ends in LOCKOUT, never in a guess."""
    wants, last = trace.story.wants, trace.rows[-1]
    if "welded" in wants:
        if last.decision.state is not State.LOCKOUT:
            yield Finding("site-welded", last.t_s, f"the switch is welded and the state is {last.decision.state}")
        feeds = [r for r in trace.rows if r.truth.closed and r.truth.bus[k.B_GV] < 0.5 and r.t_s > 6.0]
        if any(np.any(r.truth.sources[:, k.S_MODE] == 1.0) for r in feeds):
            yield Finding("site-welded", feeds[0].t_s, "a source goes on forming onto a dead grid")
    for a, b, says in trace.story.feedback:
        inside = [r for r in trace.rows if a + 0.5 < r.t_s < b]
        if says == "unknown" and b - a > 3.0 and inside and inside[-1].decision.state is not State.LOCKOUT:
            yield Finding(
                "site-unknown", inside[-1].t_s, f"contacts contradict for {b - a:.1f} s, {inside[-1].decision.state}"
            )


def honest_state(trace: Trace) -> Iterator[Finding]:
    """The state told is the state there is."""
    wrong_since: float | None = None
    for row in trace.rows:
        state, closed = row.decision.state, row.truth.closed
        wrong = (state in {State.ISLANDED, State.BLACK, State.STARTING} and closed) or (
            state is State.CONNECTED and not closed
        )
        if not wrong or faulty(trace, row.t_s, 2.0):
            wrong_since = None
        elif wrong_since is None:
            wrong_since = row.t_s
        elif row.t_s - wrong_since > 1.5:
            yield Finding("state", row.t_s, f"says {state}, the switch is {'closed' if closed else 'open'}")
            return


def _lost_while_closing(trace: Trace, t_s: float) -> bool:
    """Whether the grid went between the last image before a command to close and the contacts, at ``t_s``."""
    told = next((r.t_s for r in reversed(trace.rows) if r.t_s <= t_s and said(r, Do.CLOSE)), None)
    return told is not None and t_s - told < 0.2 and happened(trace, told - AGE_S, t_s, "grid-voltage")


def reached(trace: Trace) -> Iterator[Finding]:
    """What the story asks to be reached is reached."""
    wants, last = trace.story.wants, trace.rows[-1]
    state, truth = last.decision.state, last.truth
    if "islanded" in wants and not (state is State.ISLANDED and truth.live and not truth.closed):
        yield Finding("end-islanded", last.t_s, f"is {state}")
    if "connected" in wants and not (state is State.CONNECTED and truth.closed):
        yield Finding("end-connected", last.t_s, f"is {state}")
    if "stays" in wants and not (state is State.CONNECTED and truth.closed and not happened(trace, 0.0, 1e9, "opened")):
        yield Finding("G1-abort", last.t_s, f"could not be balanced, is {state}, closed {truth.closed}")
    if "open" in wants and happened(trace, 3.5, 1e9, "closed"):
        yield Finding("end-open", last.t_s, "closed although the grid was not fit")
    if "started" in wants and not (state is State.ISLANDED and truth.live):
        yield Finding("end-started", last.t_s, f"is {state}, live {truth.live}")
    if "survives" in wants:
        bad = {k.TRIP_F, k.TRIP_V, k.TRIP_OVERLOAD, k.TRIP_SURGE, k.TRIP_DEAD}
        forming = {s.id for s in trace.story.spec.sources if s.can_form}
        for e in trace.events:
            if e.what == "tripped" and e.device in forming and int(e.value) in bad:
                text = f"{e.device} tripped: {k.TRIP_NAMES[int(e.value)]}"
                yield Finding("G2-collapse", e.t_s, text, knowable=not _lost_while_closing(trace, e.t_s))
                return
        if not truth.live:
            yield Finding("G2-collapse", last.t_s, f"the island is dark at the end, {state}")
    if trace.rows[-1].t_s < trace.story.seconds - 2 * CYCLE_S:
        yield Finding("cut-short", last.t_s, "the story was not played to its end")
