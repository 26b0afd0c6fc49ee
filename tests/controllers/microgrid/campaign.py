"""The long campaign: thousands of seeded islanding events, judged from the world's trace, and the supervisor killed.

``python -m tests.controllers.microgrid.campaign --events 10000 --seed 1`` plays them on every core and prints a table;
it ends with status 1 if one requirement was broken once. ``--show 17`` plays event 17 alone and prints what went on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial

import numpy as np

from controllers.microgrid.image import State
from tests.controllers.microgrid.checker import Finding
from tests.controllers.microgrid.checker_black import judge_all
from tests.controllers.microgrid.kills import kill_in
from tests.controllers.microgrid.playing import Played, excerpt, play, play_event
from tests.controllers.microgrid.stories import make


def table(played: Iterable[Played]) -> str:
    """Per kind: events, findings, and the figures that matter."""
    by: dict[str, list[Played]] = defaultdict(list)
    for p in played:
        by[p.kind].append(p)

    def figure(rows: list[Played], name: str, how: str) -> str:
        values = [p.figures[name] for p in rows if name in p.figures]
        if not values:
            return "-"
        return f"{float(np.quantile(values, {'min': 0.0, 'mid': 0.5, 'max': 1.0}[how])):.2f}"

    head = (
        "kind",
        "events",
        "broken",
        "shed s mid/max",
        "dark s max",
        "Hz min",
        "Hz max",
        "deg max",
        "surge max",
        "unserved %",
    )
    lines = [head]
    for kind in sorted(by):
        rows = by[kind]
        lost = sum(p.figures["unserved_kwh"] for p in rows)
        fed = sum(p.figures["served_kwh"] for p in rows)
        lines.append(
            (
                kind,
                str(len(rows)),
                str(sum(bool(p.findings) for p in rows)),
                figure(rows, "shed_s", "mid") + " / " + figure(rows, "shed_s", "max"),
                figure(rows, "dark_s", "max"),
                figure(rows, "f_min", "min"),
                figure(rows, "f_max", "max"),
                figure(rows, "angle_deg", "max"),
                figure(rows, "surge_pu", "max"),
                f"{100.0 * lost / max(lost + fed, 1e-9):.1f}",
            )
        )
    widths = [max(len(line[c]) for line in lines) for c in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _kill(job: tuple[int, State]) -> tuple[State, int, list[Finding] | None]:
    seed, state = job
    return state, seed, kill_in(state, seed)


def show(seed: int, n: int, around_s: float) -> None:
    """One event in full: what it is, what the judge found, the trace around it."""
    story = make(seed, n)
    trace = play(story)
    out = [f"{story.kind}, {story.seconds:.0f} s, rating {story.rating_kw:.0f} kW"]
    out += [f"  {s.id} {s.rating_kw} kW{' forms' if s.can_form else ''}" for s in story.spec.sources]
    out += [f"  {x.id} priority {x.priority} {x.p_kw:.2f} kW inrush x{x.inrush:.2f}" for x in story.spec.loads]
    out += [f"  {item}" for item in (*story.happens, *story.orders, *story.blind, *story.deaf, *story.feedback)]
    for f in judge_all(trace):
        out += [f"--- {f.rule} at {f.t_s:.2f} s: {f.text}", excerpt(trace, f.t_s, around_s)]
    sys.stdout.write("\n".join(out) + "\n")


def main(argv: list[str] | None = None) -> int:
    """The campaign; 0 if nothing was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50, help="per state")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", type=int)
    parser.add_argument("--around", type=float, default=1.0)
    args = parser.parse_args(argv)
    if args.show is not None:
        show(args.seed, args.show, args.around)
        return 0
    write = sys.stdout.write
    played: list[Played] = []
    rules: Counter[str] = Counter()
    unknowable: Counter[str] = Counter()
    killed: Counter[State] = Counter()
    broken = 0
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        events = range(args.first, args.first + args.events)
        for p in pool.imap_unordered(partial(play_event, args.seed), events, chunksize=8):
            played.append(p)
            for f in p.findings + p.unknowable:
                (rules if f.knowable else unknowable)[f.rule] += 1
                mark = "" if f.knowable else " (not knowable)"
                write(f"event {p.n} ({p.kind}) {f.rule} at {f.t_s:.2f} s{mark}: {f.text}\n")
            if len(played) % max(1, args.events // 20) == 0:
                write(f"{len(played)} of {args.events} events, {sum(bool(q.findings) for q in played)} broken\n")
                sys.stdout.flush()
        jobs = [(1000 * args.seed + i, state) for state in State for i in range(args.kills)]
        for state, seed, findings in pool.imap_unordered(_kill, jobs, chunksize=4):
            if findings is None:
                continue
            killed[state] += 1
            broken += bool(findings)
            for f in findings:
                rules[f.rule] += 1
                write(f"killed in {state.value}, seed {seed}: {f.rule} at {f.t_s:.2f} s: {f.text}\n")
    cycles = sum(p.cycles for p in played)
    wrong = sum(bool(p.findings) for p in played)
    write(table(played) + "\n")
    seen = {x: int(sum(p.figures[x] for p in played)) for x in ("losses", "closings", "starts", "steady")}
    write(f"judged: {seen['losses']} losses of the grid, {seen['closings']} closings, {seen['starts']} black starts, ")
    write(f"{seen['steady']} steady cycles\n")
    write(f"{len(played)} events, {cycles} cycles ({cycles / 36_000.0:.1f} hours), {wrong} broken\n")
    write("killed: " + ", ".join(f"{s.value} {killed[s]}" for s in State) + f"; {broken} broken\n")
    write("findings: " + (", ".join(f"{rule} {count}" for rule, count in rules.most_common()) or "none") + "\n")
    write("not knowable: " + (", ".join(f"{rule} {n}" for rule, n in unknowable.most_common()) or "none") + "\n")
    missing = [s.value for s in State if args.kills and not killed[s]]
    if missing:
        write(f"never killed in: {missing}\n")
    return int(bool(rules) or bool(missing))


if __name__ == "__main__":
    sys.exit(main())
