"""Between the island's world and the supervisor: what is measured and when, how commands travel, who falls back.

Every cycle (100 ms): the world runs to the instant the measurements are taken, then to the supervisor's step; commands
reach their device after a latency of their own, may be lost or refused, and are acknowledged in a later image.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from controllers.microgrid.image import Command, Decision, Image, Load, Order, Side, Source, Switch
from core.keyed_random import keyed_generator
from grid.island import kernel as k
from grid.island.spec import IslandSpec
from grid.island.world import Event, IslandWorld, Reading, Told

CYCLE_S = 0.1
SILENCE_S = 1.0
"""A device's dead man in these tests [s]."""


class Steps(Protocol):
    """Whatever decides: the supervisor, a broken one, or one in another process."""

    def step(self, image: Image) -> Decision: ...


@dataclass(frozen=True)
class Blind:
    """A measurement that fails from ``a_s`` to ``b_s``; names as in `Rig.image` (``exchange``, ``on:L2``)."""

    a_s: float
    b_s: float
    field: str


@dataclass(frozen=True)
class Deaf:
    """Commands to a device that are ``lost`` or ``refused`` in a time; ``do`` empty: all of them."""

    a_s: float
    b_s: float
    device: str
    how: str
    do: str = ""


@dataclass(frozen=True)
class Story:
    """One seeded event of the campaign: an island, what happens to it, what is ordered, what fails."""

    kind: str
    seed: int
    spec: IslandSpec
    seconds: float
    happens: tuple[tuple[float, str, str, float], ...] = ()
    orders: tuple[tuple[float, Order], ...] = ()
    blind: tuple[Blind, ...] = ()
    deaf: tuple[Deaf, ...] = ()
    feedback: tuple[tuple[float, float, str], ...] = ()  # (from, to, unknown | open | closed): what the contacts say
    at_start: tuple[tuple[str, str, float], ...] = ()
    rating_kw: float = 60.0
    wants: frozenset[str] = frozenset()  # what has to be reached, see checker
    noise: float = 1.0


@dataclass(frozen=True)
class Issued:
    """A command and its fate: ``told`` (it reached the device), ``lost`` or ``refused``."""

    t_s: float
    command: Command
    arrives_s: float
    fate: str


@dataclass
class Row:
    """One cycle: what was seen, what was decided, and the truth at the instant of the decision."""

    t_s: float
    image: Image
    decision: Decision
    truth: Reading
    fmin: float
    fmax: float


@dataclass
class Trace:
    """All that a judge may look at."""

    story: Story
    rows: list[Row] = field(default_factory=list)
    issued: list[Issued] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def told(text: str) -> tuple[Told, ...]:
    """A written safe state (``follow 0``, ``hold``, ``open``) as what the device does by itself."""
    parts = text.split()
    return (Told(parts[0], float(parts[1]) if len(parts) > 1 else None),)


class Rig:
    """A story's world with its measurements and its wires."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.world = IslandWorld(story.spec, story.seed)
        rng = keyed_generator(story.seed, "microgrid-rig")
        self.age_s = float(rng.uniform(0.02, 0.06))
        n_noise = 6 + 2 * len(story.spec.sources) + len(story.spec.loads)
        self._noise = rng.standard_normal((round(story.seconds / CYCLE_S) + 2, n_noise)) * story.noise
        self._latency = rng.uniform(0.01, 0.06, 512)
        self._n = 0
        self.cycle = 0
        self._wires: list[tuple[float, int, Command]] = []
        self._last: dict[str, float] = {}
        self._ack: set[int] = set()
        self._refused: set[int] = set()
        self.trace = Trace(story)
        self._last_on = [load.p_kw for load in story.spec.loads]
        for action, device, value in story.at_start:
            self.world.tell(action, device, value)
        s = self.world.sources  # set-points were reached long ago
        s[:, k.S_PM] = np.clip(s[:, k.S_PREF], -s[:, k.S_CHARGE], np.minimum(s[:, k.S_DISCHARGE], s[:, k.S_AVAILABLE]))
        s[s[:, k.S_RUN] != k.RUNNING, k.S_PM] = 0.0
        for t_s, action, device, value in story.happens:
            self.world.later(t_s, action, device, value)
        self.world.run(1.0)  # everything settles before the supervisor's first look

    # --- measuring ---

    def image(self, seen: Reading, now_s: float) -> Image:
        """The image of a reading: noise, failed readings as None, contacts that lie."""
        b, n = seen.bus.tolist(), self._noise[self.cycle % len(self._noise)].tolist()
        gone = {x.field for x in self.story.blind if x.a_s <= now_s < x.b_s}

        def see(name: str, value: float) -> float | None:
            return None if name in gone else value

        grid_live, island_live = b[k.B_GV] > 0.1, b[k.B_V] > 0.1
        grid = Side(
            see("grid.v", max(0.0, b[k.B_GV] + 0.001 * n[0])),
            see("grid.f", b[k.B_GF] + 0.002 * n[1]) if grid_live else None,
            (b[k.B_GPHASES] > 0.0 if "grid.phases" not in gone else None) if grid_live else None,
        )
        island = Side(
            see("island.v", max(0.0, b[k.B_V] + 0.001 * n[2])),
            see("island.f", b[k.B_F] + 0.002 * n[3]) if island_live else None,
            True if island_live else None,
        )
        angle = (b[k.B_ANGLE] + 0.3 * n[4] + 180.0) % 360.0 - 180.0
        orders = tuple(order for t, order in self.story.orders if now_s - CYCLE_S < t <= now_s)
        image = Image(
            now_s=now_s,
            grid=grid,
            island=island,
            switch=self._contacts(seen, now_s),
            exchange_kw=see("exchange", b[k.B_EXCHANGE] + 0.001 * self.story.rating_kw * n[5]),
            angle_deg=see("angle", angle) if grid_live and island_live else None,
            sources=self._sources(seen, gone, n),
            loads=self._loads(seen, gone, n),
            orders=orders,
            acknowledged=frozenset(self._ack),
            refused=frozenset(self._refused),
            forecast_kw=(),
        )
        self._ack.clear()
        self._refused.clear()
        return image

    def _contacts(self, seen: Reading, now_s: float) -> Switch:
        for a, b, says in self.story.feedback:
            if a <= now_s < b:
                return Switch(says)
        return Switch.CLOSED if seen.closed else Switch.OPEN

    def _sources(self, seen: Reading, gone: set[str], n: Sequence[float]) -> tuple[Source, ...]:
        out = []
        for i, (spec, s) in enumerate(zip(self.story.spec.sources, seen.sources.tolist(), strict=True)):
            stored = s[k.S_CAPACITY] > 0.0
            running = s[k.S_RUN] == k.RUNNING
            soc = s[k.S_ENERGY] / s[k.S_CAPACITY] if stored else None
            full = stored and s[k.S_ENERGY] >= s[k.S_E_FULL]
            empty = stored and s[k.S_ENERGY] <= s[k.S_E_EMPTY]
            blind = f"p:{spec.id}" in gone
            out.append(
                Source(
                    id=spec.id,
                    rating_kw=spec.rating_kw,
                    can_form=spec.can_form,
                    forming=None if f"running:{spec.id}" in gone else running and s[k.S_MODE] == 1.0,
                    running=None if f"running:{spec.id}" in gone else running,
                    p_kw=None if blind else -s[k.S_PE] + 0.002 * spec.rating_kw * n[6 + 2 * i],
                    q_kvar=None if blind else -s[k.S_QE] + 0.002 * spec.rating_kw * n[7 + 2 * i],
                    charge_kw=0.0 if full else s[k.S_CHARGE],
                    discharge_kw=0.0 if empty else min(s[k.S_DISCHARGE], s[k.S_AVAILABLE]),
                    soc=None if f"soc:{spec.id}" in gone else soc,
                    capacity_kwh=s[k.S_CAPACITY] if stored else None,
                    droop_hz_per_kw=s[k.S_DROOP] if spec.can_form else None,
                )
            )
        return tuple(out)

    def _loads(self, seen: Reading, gone: set[str], n: Sequence[float]) -> tuple[Load, ...]:
        out = []
        first = 6 + 2 * len(self.story.spec.sources)
        live = seen.bus[k.B_V] > k.DEAD_PU
        for j, (spec, d) in enumerate(zip(self.story.spec.loads, seen.loads.tolist(), strict=True)):
            on = d[k.L_ON] > 0.0
            if on and live and d[k.L_SINCE] > 1.0:  # meters keep what was last drawn, inrush apart
                self._last_on[j] = max(0.0, d[k.L_P] + 0.002 * spec.p_kw * n[first + j])
            out.append(
                Load(
                    id=spec.id,
                    priority=spec.priority,
                    p_kw=None if f"p:{spec.id}" in gone else self._last_on[j],
                    on=None if f"on:{spec.id}" in gone else on,
                    inrush_kw=d[k.L_P0] * (1.0 + d[k.L_INRUSH]),
                )
            )
        return tuple(out)

    # --- commanding ---

    def send(self, commands: Sequence[Command], now_s: float) -> None:
        """Put commands on their wires."""
        for command in commands:
            self._n += 1
            arrives = now_s + float(self._latency[self._n % 512])
            arrives = max(arrives, self._last.get(command.device, 0.0) + 1e-6)
            fate = "told"
            for d in self.story.deaf:
                if d.a_s <= now_s < d.b_s and d.device in {command.device, "*"} and d.do in {"", command.do.value}:
                    fate = d.how
            self._last[command.device] = arrives
            self.trace.issued.append(Issued(now_s, command, arrives, fate))
            if fate == "told":
                heapq.heappush(self._wires, (arrives, self._n, command))
            elif fate == "refused":
                self._refused.add(command.number)

    def _run(self, until_s: float) -> None:
        while self._wires and self._wires[0][0] <= until_s:
            arrives, _, command = heapq.heappop(self._wires)
            self.world.run(max(arrives, self.world.t_s))
            done = self.world.tell(command.do.value, command.device, command.value)
            (self._ack if done else self._refused).add(command.number)
        self.world.run(until_s)

    def turn(self, supervisor: Steps | None) -> Row | None:
        """One cycle; without a supervisor nobody speaks to the devices."""
        self.cycle += 1
        now = 1.0 + self.cycle * CYCLE_S
        self._run(now - self.age_s)
        seen = self.world.read()
        self._run(now)
        if supervisor is None:
            return None
        image = self.image(seen, now)
        decision = supervisor.step(image)
        truth = self.world.read()
        row = Row(now, image, decision, truth, float(truth.bus[k.B_FMIN]), float(truth.bus[k.B_FMAX]))
        self.world.reset_extremes()
        for device, text in decision.safe:
            self.world.watch(device, SILENCE_S, told(text))
        for device in self.world.watches:
            self.world.speak(device)
        self.send(decision.commands, now)
        self.trace.rows.append(row)
        return row

    def play(self, supervisor: Steps) -> Trace:
        """The whole story."""
        while 1.0 + self.cycle * CYCLE_S < self.story.seconds:
            self.turn(supervisor)
        self.trace.events = self.world.events
        return self.trace


def on_demand(reading: Reading) -> float:
    """What the loads that are on want at nominal voltage [kW], losses not counted."""
    return float(np.sum(reading.loads[:, k.L_P0] * (reading.loads[:, k.L_ON] > 0.0)))


def finite(x: float | None) -> bool:
    """Whether a measurement is there."""
    return x is not None and math.isfinite(x)
