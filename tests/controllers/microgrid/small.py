"""A small obedient microgrid for the supervisor's own tests: powers balance at once, devices obey in 100 ms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from controllers.microgrid.image import Decision, Do, Image, Load, Order, Side, Source, State, Switch
from controllers.microgrid.settings import Settings
from controllers.microgrid.supervisor import Supervisor

QUICK = Settings(
    rating_kw=50.0,
    enter_service_s=3.0,
    restore_dwell_s=1.0,
    connected_restore_s=0.5,
    start_settle_s=0.3,
    black_wait_s=1.0,
    reserve_h=0.0,
)


def battery(name: str = "battery", rating: float = 30.0, soc: float | None = 0.6, **more: object) -> Source:
    """A battery that can form and follows, idle."""
    plain = Source(name, rating, True, False, True, 0.0, 0.0, rating, rating, soc, 2.0 * rating, 0.5 / rating)
    return replace(plain, **more)  # type: ignore[arg-type]


def block(name: str, priority: int, kw: float = 5.0, **more: object) -> Load:
    """A block of load that is on."""
    return replace(Load(name, priority, kw, True, 1.5 * kw), **more)  # type: ignore[arg-type]


GOOD = Side(1.0, 50.0, True)
DARK = Side(0.0, None, None)


def image(**more: object) -> Image:
    """A healthy microgrid on a healthy grid."""
    plain = Image(
        now_s=0.0,
        grid=GOOD,
        island=GOOD,
        switch=Switch.CLOSED,
        exchange_kw=15.0,
        angle_deg=0.0,
        sources=(battery(),),
        loads=(block("a", 1), block("b", 2), block("c", 3)),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


@dataclass
class Plant:
    """Devices that obey; ``deaf`` names devices (or ``device do``) that do not, ``grid`` is the grid's side."""

    image: Image = field(default_factory=image)
    grid: Side = GOOD
    angle_deg: float = 0.0
    deaf: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    references: dict[str, float] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)

    def obey(self, decision: Decision) -> None:
        """Do what is told, acknowledge it, and let 100 ms pass."""
        self.decisions.append(decision)
        self.images.append(self.image)
        told, refused, now = set(), set(), self.image
        for c in decision.commands:
            name = {c.device, f"{c.device} {c.do.value}"}
            if name & self.refusing:
                refused.add(c.number)
                continue
            if name & self.deaf:
                continue
            told.add(c.number)
            if c.do in (Do.OPEN, Do.CLOSE):
                now = replace(now, switch=Switch.OPEN if c.do is Do.OPEN else Switch.CLOSED)
            if c.value is not None and c.do in (Do.FORM, Do.REFERENCE):
                self.references[c.device] = c.value
            loads = {Do.SHED: False, Do.RESTORE: True}
            now = replace(
                now,
                loads=tuple(replace(x, on=loads[c.do]) if c.do in loads and x.id == c.device else x for x in now.loads),
            )
            now = replace(now, sources=tuple(_told(x, c.do, c.value) if x.id == c.device else x for x in now.sources))
        self.image = self._settled(now, frozenset(told), frozenset(refused))

    def _settled(self, now: Image, told: frozenset[int], refused: frozenset[int]) -> Image:
        closed = now.switch is not Switch.OPEN
        forming = [x for x in now.sources if x.forming]
        island = self.grid if closed else GOOD if forming else DARK
        alive = (island.v_pu or 0.0) > 0.5
        drawn = sum(x.p_kw or 0.0 for x in now.loads if x.on) if alive else 0.0
        given = sum(x.p_kw or 0.0 for x in now.sources if not x.forming)
        exchange = drawn + sum(x.p_kw or 0.0 for x in now.sources) if closed else 0.0
        sources = now.sources
        if not closed and forming:
            total = sum(x.rating_kw for x in forming)
            share = {x.id: -(drawn + given) * x.rating_kw / total for x in forming}
            sources = tuple(replace(x, p_kw=share[x.id]) if x.id in share else x for x in sources)
        return replace(
            now,
            now_s=round(now.now_s + 0.1, 1),
            grid=self.grid,
            island=island,
            exchange_kw=exchange,
            angle_deg=self.angle_deg,
            sources=sources,
            orders=(),
            acknowledged=told,
            refused=refused,
        )

    def run(self, supervisor: Supervisor, seconds: float, *orders: Order) -> State:
        """Let it run; the orders stand in the first image."""
        self.image = replace(self.image, orders=orders)
        for _ in range(round(seconds * 10)):
            self.obey(supervisor.step(self.image))
        return supervisor.state

    def said(self, do: Do) -> list[str]:
        """Devices that were told this, in order."""
        return [c.device for d in self.decisions for c in d.commands if c.do is do]

    def news(self) -> list[str]:
        """Kinds of news, in order."""
        return [n.kind for d in self.decisions for n in d.news]


def _told(source: Source, do: Do, value: float | None) -> Source:
    if do is Do.FORM:
        return replace(source, forming=True)
    if do is Do.FOLLOW:
        return replace(source, forming=False, p_kw=value)
    if do is Do.POWER:
        return replace(source, p_kw=value)
    if do is Do.HALT:
        return replace(source, running=False, forming=False, p_kw=0.0)
    if do is Do.START:
        return replace(source, running=True)
    return replace(source, droop_hz_per_kw=value) if do is Do.DROOP else source
