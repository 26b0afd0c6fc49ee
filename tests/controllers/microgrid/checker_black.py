"""The judge of a black start (G6): order, one block at a time, inrush, stop and roll back on any failure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from controllers.microgrid.image import Do, State
from grid.island import kernel as k
from tests.controllers.microgrid.checker import (
    AGE_S,
    Finding,
    Row,
    Rule,
    Trace,
    faulty,
    g1_balance,
    g2_in_time,
    g2_order,
    g3_sharing,
    g4_floor,
    g5_closing,
    happened,
    honest_state,
    reached,
    restore_order,
    said,
    site_faults,
)

OBEYS_S = 1.2
"""A block that was told to come on and is not on after this long has failed [s]."""
SETTLES_S = 0.4
CLEARED_S = 3.0


def attempts(trace: Trace) -> Iterator[list[Row]]:
    """The stretches of rows that are spent in STARTING."""
    rows: list[Row] = []
    for row in trace.rows:
        if row.decision.state is State.STARTING:
            rows.append(row)
        elif rows:
            yield [*rows, row]
            rows = []
    if rows:
        yield rows


def g6_black_start(trace: Trace) -> Iterator[Finding]:
    """Every attempt: sources first on an empty bus, then block by block with room for the inrush; a failure ends it."""
    for rows in attempts(trace):
        yield from _steps(trace, rows)
        yield from _failures(trace, rows)


def _steps(trace: Trace, rows: list[Row]) -> Iterator[Finding]:
    last: tuple[float, str] | None = None
    at = {x.id: j for j, x in enumerate(trace.story.spec.loads)}
    for e in trace.events:
        if e.what == "energised" and rows[0].t_s <= e.t_s <= rows[-1].t_s:
            row = [r for r in rows if r.t_s <= e.t_s][-1]
            on = [x.id for x, d in zip(trace.story.spec.loads, row.truth.loads, strict=True) if d[k.L_ON] > 0]
            if on and not any(faulty(trace, e.t_s, 25.0, device=x) for x in on):
                yield Finding("G6-order", e.t_s, f"the bus is energised with {on} on")
    for row in rows:
        restores = said(row, Do.RESTORE)
        s = row.truth.sources
        forming = (s[:, k.S_MODE] == 1.0) & (s[:, k.S_RUN] == k.RUNNING)
        if len({c.device for c in restores}) > 1:
            yield Finding("G6-one", row.t_s, f"several blocks at once: {[c.device for c in restores]}")
        for c in restores:
            seen = row.image.loads[at[c.device]]
            if not (row.truth.live and np.any(forming)):
                yield Finding("G6-order", row.t_s, f"{c.device} told to come on without a voltage")
                continue
            if last is not None and last[1] != c.device:
                on = row.truth.loads[at[last[1]], k.L_ON] > 0
                if row.t_s - last[0] < SETTLES_S or not on:
                    yield Finding("G6-one", row.t_s, f"{c.device} although {last[1]} is {'just' if on else 'not'} on")
            room = float(np.sum(s[forming, k.S_DISCHARGE])) - float(np.sum(s[forming, k.S_PE]))
            if not seen.on and max(seen.inrush_kw, seen.p_kw or 0.0) > room + 0.3:
                text = f"{c.device} may draw {seen.inrush_kw:.1f}, room {room:.1f} kW"
                fresh = happened(trace, row.t_s - AGE_S, row.t_s, "tripped")  # later than what the image shows
                yield Finding("G6-inrush", row.t_s, text, knowable=not fresh)
            last = (row.t_s, c.device)


def _failed(trace: Trace, rows: list[Row]) -> tuple[float, str] | None:
    """The first failure of an attempt: (when it could be known, what)."""
    out: list[tuple[float, str]] = []
    a, b = rows[0].t_s, rows[-1].t_s
    forming = {x.id for x in trace.story.spec.sources if x.can_form}
    out += [
        (e.t_s + 0.5, f"{e.device} tripped")
        for e in trace.events
        if a <= e.t_s < b - 0.5 and e.what == "tripped" and e.device in forming and e.value != k.TRIP_DEAD
    ]
    for i in trace.issued:
        if i.command.do is Do.RESTORE and a <= i.t_s <= b:
            came = any(
                e.what == "load-on" and e.device == i.command.device and i.t_s - 3.0 <= e.t_s <= i.t_s + OBEYS_S
                for e in trace.events
            )
            if not came:
                out.append((i.t_s + OBEYS_S, f"{i.command.device} did not come on"))
    return min(out, default=None)


def _failures(trace: Trace, rows: list[Row]) -> Iterator[Finding]:
    failed = _failed(trace, rows)
    if failed is None or trace.rows[-1].t_s < failed[0] + 12.0:
        return
    t, what = failed
    for row in rows:
        others = [c.device for c in said(row, Do.RESTORE) if c.device not in what]
        if row.t_s > t and others:
            yield Finding("G6-went-on", row.t_s, f"{what}, yet {others[0]} is told to come on")
            return
    after = rows[-1]
    if after.decision.state in {State.ISLANDED, State.STARTING} and after.t_s > t + 10.0:
        yield Finding("G6-went-on", after.t_s, f"{what} at {t:.1f} s, and the state is {after.decision.state}")
        return
    later = [r for r in trace.rows if r.t_s > after.t_s + CLEARED_S]
    if after.decision.state in {State.BLACK, State.LOCKOUT} and later:
        first = later[0]
        if first.decision.state is not after.decision.state:
            return
        d, s = first.truth.loads, first.truth.sources
        if np.any((d[:, k.L_ON] > 0) & (d[:, k.L_STUCK] == 0)) or np.any(s[:, k.S_MODE] == 1.0):
            yield Finding("G6-roll-back", first.t_s, f"{what}; loads on {d[:, k.L_ON]}, forming {s[:, k.S_MODE]}")


RULES: tuple[Rule, ...] = (
    g1_balance,
    g2_in_time,
    g2_order,
    restore_order,
    g3_sharing,
    g4_floor,
    g5_closing,
    g6_black_start,
    site_faults,
    honest_state,
    reached,
)


def judge(trace: Trace) -> list[Finding]:
    """What the supervisor is to blame for: all findings but those that it could not know."""
    return [f for f in judge_all(trace) if f.knowable]


def judge_all(trace: Trace, per_rule: int = 2) -> list[Finding]:
    """All findings of all rules, at most ``per_rule`` of each name."""
    out: list[Finding] = []
    for rule in RULES:
        count: dict[str, int] = {}
        for finding in rule(trace):
            count[finding.rule] = count.get(finding.rule, 0) + 1
            if count[finding.rule] <= per_rule:
                out.append(finding)
    return out
