"""Between the island's physics and its supervisor: the world as an image, commands as what devices are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controllers.microgrid.image import Command, Do, Image, Load, Order, Side, Source, Switch
from grid.island import kernel as k

if TYPE_CHECKING:
    from grid.island.spec import IslandSpec
    from grid.island.world import IslandWorld, Reading

WORDS = {
    Do.OPEN: "open", Do.CLOSE: "close", Do.FORM: "form", Do.FOLLOW: "follow", Do.POWER: "power",
    Do.REFERENCE: "reference", Do.VOLTAGE: "voltage", Do.DROOP: "droop", Do.START: "start", Do.HALT: "halt",
    Do.SHED: "shed", Do.RESTORE: "restore",
}  # fmt: skip
"""The supervisor's commands in the words of the island's devices."""


class Adapter:
    """Measures one island and carries out what its supervisor decides; every reading is good, every word arrives."""

    def __init__(self, spec: IslandSpec, world: IslandWorld) -> None:
        self._spec = spec
        self._world = world
        self._done: set[int] = set()
        self._refused: set[int] = set()

    def image(self, now_s: float, reading: Reading, orders: tuple[Order, ...], ahead: tuple[float, ...] = ()) -> Image:
        """The island at ``now_s``; ``ahead`` is the net load expected per quarter hour [kW]."""
        bus = reading.bus
        done, refused = frozenset(self._done), frozenset(self._refused)
        self._done, self._refused = set(), set()
        grid_live = bool(bus[k.B_GV] >= k.DEAD_PU)
        island_v = float(bus[k.B_V]) if reading.live else 0.0
        return Image(
            now_s=now_s,
            grid=Side(float(bus[k.B_GV]), float(bus[k.B_GF]), bool(bus[k.B_GPHASES] > 0.0)),
            island=Side(island_v, float(bus[k.B_F]) if reading.live else 0.0, True),
            switch=Switch.CLOSED if reading.closed else Switch.OPEN,
            exchange_kw=float(bus[k.B_EXCHANGE]),
            angle_deg=float(bus[k.B_ANGLE]) if reading.live and grid_live else None,
            sources=tuple(self._sources(reading)),
            loads=tuple(self._loads(reading)),
            orders=orders,
            acknowledged=done,
            refused=refused,
            forecast_kw=ahead,
        )

    def _sources(self, reading: Reading) -> list[Source]:
        found = []
        for spec, row in zip(self._spec.sources, reading.sources, strict=True):
            stores = spec.capacity_kwh > 0.0
            found.append(
                Source(
                    id=spec.id,
                    rating_kw=spec.rating_kw,
                    can_form=spec.can_form,
                    forming=bool(row[k.S_MODE] == 1.0),
                    running=bool(row[k.S_RUN] == k.RUNNING),
                    p_kw=-float(row[k.S_PE]),
                    q_kvar=-float(row[k.S_QE]),
                    charge_kw=spec.charge_kw,
                    discharge_kw=min(float(row[k.S_DISCHARGE]), float(row[k.S_AVAILABLE])),
                    soc=float(row[k.S_ENERGY] / row[k.S_CAPACITY]) if stores else None,
                    capacity_kwh=spec.capacity_kwh if stores else None,
                    droop_hz_per_kw=float(row[k.S_DROOP]) if spec.can_form else None,
                )
            )
        return found

    def _loads(self, reading: Reading) -> list[Load]:
        return [
            Load(
                id=spec.id,
                priority=spec.priority,
                p_kw=float(row[k.L_P] if row[k.L_ON] > 0.0 and reading.live else row[k.L_P0]),
                on=bool(row[k.L_ON] > 0.0),
                inrush_kw=float(row[k.L_P0] * row[k.L_INRUSH]),
            )
            for spec, row in zip(self._spec.loads, reading.loads, strict=True)
        ]

    def tell(self, commands: tuple[Command, ...]) -> None:
        """Carry out ``commands`` in their order; whether each was taken stands in the next image."""
        for command in commands:
            taken = self._world.tell(WORDS[command.do], command.device, command.value)
            (self._done if taken else self._refused).add(command.number)
