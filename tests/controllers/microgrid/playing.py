"""Play one event of the campaign: the story, the supervisor that is judged, the figures of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controllers.microgrid.settings import Settings
from controllers.microgrid.supervisor import Supervisor
from grid.island import kernel as k
from tests.controllers.microgrid.checker import Finding, losses, steady
from tests.controllers.microgrid.checker_black import attempts, judge_all
from tests.controllers.microgrid.harness import Rig, Steps, Story, Trace
from tests.controllers.microgrid.stories import make

Breaks = Callable[[Steps], Steps]


def settings_of(story: Story) -> Settings:
    """The supervisor's defaults with the long waits of a real site cut short, so that an event fits into a minute."""
    return Settings(
        rating_kw=story.rating_kw,
        enter_service_s=5.0,
        restore_dwell_s=2.0,
        restore_again_s=20.0,
        forgive_s=20.0,
        connected_restore_s=1.0,
        planned_s=10.0,
        start_s=10.0,
        start_step_s=5.0,
        reconnect_s=25.0,
        reconnect_again_s=5.0,
        energy_news_s=5.0,
        reserve_h=0.02,
    )


@dataclass
class Played:
    """What came of an event."""

    n: int
    kind: str
    cycles: int
    findings: list[Finding]
    unknowable: list[Finding]
    states: frozenset[str]
    figures: dict[str, float] = field(default_factory=dict)


def figures_of(trace: Trace) -> dict[str, float]:
    """What the table of the campaign shows of an event."""
    out: dict[str, float] = {"unserved_kwh": float(trace.rows[-1].truth.bus[k.B_E_UNSERVED])}
    out["steady"] = float(sum(1 for _ in steady(trace)))
    out["losses"] = float(sum(1 for _ in losses(trace)))
    out["closings"] = float(sum(e.what == "closed" for e in trace.events))
    out["starts"] = float(sum(1 for _ in attempts(trace)))
    out["served_kwh"] = float(trace.rows[-1].truth.bus[k.B_E_LOAD])
    island = [r for r in trace.rows if not r.truth.closed and r.truth.live]
    if island:
        out["f_min"] = min(r.fmin for r in island)
        out["f_max"] = max(r.fmax for r in island)
    first = next(losses(trace), None)
    t0 = trace.rows[first[0]].t_s if first is not None else -1.0
    gone = max(
        (e.t_s for e in trace.events if e.what == "grid-voltage" and e.value < 0.5 and e.t_s <= t0), default=None
    )
    if gone is not None:
        off = [e.t_s for e in trace.events if e.what == "load-off" and gone <= e.t_s <= t0 + 0.35]
        if off:
            out["shed_s"] = max(off) - gone
        up = next((e.t_s for e in trace.events if e.what == "energised" and e.t_s > gone), None)
        back = next((e.t_s for e in trace.events if e.what == "grid-voltage" and e.value > 0.5 and e.t_s > gone), up)
        if up is not None and back is not None and up <= back:
            out["dark_s"] = up - gone
    joined = [e for e in trace.events if e.what == "closed" and e.v_pu > 0.5]
    if joined:
        out["angle_deg"] = max(abs(e.angle_deg) for e in joined)
        out["surge_pu"] = max(e.value for e in joined)
    return out


def play(story: Story, breaks: Breaks | None = None) -> Trace:
    """A story with a fresh supervisor, broken by ``breaks`` if given."""
    supervisor: Steps = Supervisor(settings_of(story))
    return Rig(story).play(supervisor if breaks is None else breaks(supervisor))


def play_event(seed: int, n: int, breaks: Breaks | None = None) -> Played:
    """Event ``n`` of the campaign of ``seed``, judged."""
    story = make(seed, n)
    trace = play(story, breaks)
    states = frozenset(r.decision.state.value for r in trace.rows)
    found = judge_all(trace)
    blamed, unknowable = [f for f in found if f.knowable], [f for f in found if not f.knowable]
    return Played(n, story.kind, len(trace.rows), blamed, unknowable, states, figures_of(trace))


def excerpt(trace: Trace, t_s: float, around_s: float = 1.0) -> str:
    """The trace around an instant, for a person."""
    lines = []
    marks: list[tuple[float, str]] = []
    for r in trace.rows:
        if abs(r.t_s - t_s) <= around_s:
            b = r.truth.bus
            said = " ".join(
                f"{c.do.value}:{c.device}{'' if c.value is None else f'={c.value:.3f}'}" for c in r.decision.commands
            )
            gives = np.round(r.truth.sources[:, k.S_PE], 1).tolist()
            marks.append(
                (
                    r.t_s,
                    f"{r.decision.state.value:13s} sw={r.image.switch.value} grid={b[k.B_GV]:.2f}/{b[k.B_GF]:.3f} "
                    f"island={b[k.B_V]:.3f}/{b[k.B_F]:.3f} ang={b[k.B_ANGLE]:.1f} "
                    f"ex={b[k.B_EXCHANGE]:.1f} load={b[k.B_LOAD]:.1f} "
                    f"src={gives} | {said} {[n.kind for n in r.decision.news]}",
                )
            )
    marks += [
        (e.t_s, f"    * {e.what} {e.device} value={e.value:.3f}") for e in trace.events if abs(e.t_s - t_s) <= around_s
    ]
    for t, text in sorted(marks, key=lambda m: m[0]):
        lines.append(f"{t:7.3f} {text}")
    return "\n".join(lines)
