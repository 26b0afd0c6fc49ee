"""What the supervisor knows beyond the image at hand: durations, last good readings with their age, worst cases.

A missing reading counts as it was for ``bridge_s`` and then as the worst that it can be: a load draws what it drew at
most; a source neither runs nor forms, unless its power shows that it does; its stored energy went on falling at full
power since it was last seen.
"""

from __future__ import annotations

from controllers.microgrid.image import Image, Load, Source, Switch
from controllers.microgrid.settings import Settings

_SHOWS_SHARE = 0.02
"""Of its rating: a source that gives or takes more is visibly at work."""


class Knowledge:
    """Memory of readings; `update` once a cycle before anything is asked of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: dict[str, float] = {}
        self._flags: dict[tuple[str, str], tuple[bool, float]] = {}
        self._load_kw: dict[str, float] = {}
        self._switched_on: dict[str, float] = {}
        self._was_on: dict[str, bool] = {}
        self._soc: dict[str, float] = {}
        self.image: Image | None = None
        self.now_s = 0.0
        self.unmetered_kw = 0.0
        self._last_switching = -1e9
        self._enter_s = -1.0

    # -- durations ---------------------------------------------------------------------------------------------------
    def held(self, name: str, condition: bool) -> float:
        """For how long ``condition`` has been true in every cycle [s], 0 in the first; -1 if it is not. Every cycle."""
        if not condition:
            self._since.pop(name, None)
            return -1.0
        return self.now_s - self._since.setdefault(name, self.now_s) + 1e-9

    def lasts(self, name: str, condition: bool, at_least_s: float) -> bool:
        """Whether ``condition`` has been true for ``at_least_s``."""
        return self.held(name, condition) >= at_least_s

    def forget(self, prefix: str) -> None:
        """Begin the durations anew whose names begin so."""
        for name in [name for name in self._since if name.startswith(prefix)]:
            del self._since[name]

    # -- sides -------------------------------------------------------------------------------------------------------
    @property
    def healthy(self) -> bool:
        """Whether the island's voltage and frequency are known and within its band, in this very image."""
        s, side = self._settings, self._now.island
        if side.v_pu is None or side.f_hz is None:
            return False
        below, above = s.nominal_hz - s.soft_hz_below, s.nominal_hz + s.soft_hz_above
        return s.island_v_low_pu <= side.v_pu <= s.island_v_high_pu and below <= side.f_hz <= above

    @property
    def alive(self) -> bool:
        """Whether the island is known to stand under voltage."""
        v = self._now.island.v_pu
        return v is not None and v >= self._settings.hard_v_low_pu

    @property
    def dead(self) -> bool:
        """Whether the island is known to be without voltage; an unknown one is not."""
        v = self._now.island.v_pu
        return v is not None and v < self._settings.dead_v_pu

    @property
    def grid_good(self) -> bool:
        """Whether the grid is known to be within the enter-service band, in this very image."""
        s, side = self._settings, self._now.grid
        if side.v_pu is None or side.f_hz is None:
            return False
        below, above = s.nominal_hz - s.enter_hz_below, s.nominal_hz + s.enter_hz_above
        return s.enter_v_low_pu <= side.v_pu <= s.enter_v_high_pu and below <= side.f_hz <= above

    @property
    def grid_there(self) -> bool:
        """Whether the grid is known and within the limits beyond which it counts as lost."""
        side = self._now.grid
        return side.v_pu is not None and side.f_hz is not None and not self._outside(side.v_pu, side.f_hz, hard=False)

    def _outside(self, v: float | None, f: float | None, *, hard: bool) -> bool:
        s = self._settings
        if hard:
            low, high, below, above = s.hard_v_low_pu, s.hard_v_high_pu, s.hard_hz_below, s.hard_hz_above
        else:
            low, high, below, above = s.soft_v_low_pu, s.soft_v_high_pu, s.soft_hz_below, s.soft_hz_above
        if v is not None and not low <= v <= high:
            return True
        # Without voltage a frequency means nothing.
        return f is not None and (v is None or v >= low) and not s.nominal_hz - below <= f <= s.nominal_hz + above

    def grid_lost(self) -> bool:
        """Whether the grid counts as lost. Once a cycle.

        At once beyond the hard limits if both sides of a closed switch say so or one of them is silent; if they
        contradict each other, or beyond the soft limits, after a while.
        """
        s, now = self._settings, self._now
        grid, island = now.grid, now.island
        seen = grid if grid.v_pu is not None or now.switch is Switch.OPEN else island
        hard = self._outside(seen.v_pu, seen.f_hz, hard=True)
        agree = (
            island.v_pu is None or now.switch is not Switch.CLOSED or self._outside(island.v_pu, island.f_hz, hard=True)
        )
        soft_s = self.held("grid-soft", hard or self._outside(seen.v_pu, seen.f_hz, hard=False))
        apart_s = self.held("grid-hard", hard)
        return (hard and (agree or apart_s >= s.dead_s)) or soft_s >= s.soft_s

    def _update_enter(self) -> None:
        """The grid has been good, but for gaps in the readings shorter than ``bridge_s``."""
        side = self._now.grid
        low, high = self._settings.enter_v_low_pu, self._settings.enter_v_high_pu
        # Without voltage there is no frequency to be read: that is no gap.
        unknown = side.v_pu is None or (side.f_hz is None and low <= side.v_pu <= high)
        bridged = unknown and "enter" in self._since and self.held("enter-gap", True) < self._settings.bridge_s
        if not unknown:
            self.held("enter-gap", False)
        self._enter_s = self.held("enter", self.grid_good or bridged)

    @property
    def grid_back_s(self) -> float:
        """For how long the grid has been good [s], -1 if it is not."""
        return self._enter_s

    # -- readings ----------------------------------------------------------------------------------------------------
    @property
    def _now(self) -> Image:
        assert self.image is not None
        return self.image

    def update(self, image: Image) -> None:
        """Take in an image."""
        elapsed = max(0.0, image.now_s - self.now_s) if self.image is not None else 0.0
        self.image, self.now_s = image, image.now_s
        for source in image.sources:
            self._note_flag(source.id, "running", source.running)
            self._note_flag(source.id, "forming", source.forming)
            self._note_soc(source, elapsed)
        for load in image.loads:
            self._note_flag(load.id, "on", load.on)
            if load.on is True and self._was_on.get(load.id) is False:
                self._switched_on[load.id] = self._last_switching = image.now_s
            if load.on is False and self._was_on.get(load.id) is True:
                self._last_switching = image.now_s
            if load.on is not None:
                self._was_on[load.id] = load.on
        for load in image.loads:
            if load.p_kw is not None and (load.on is False or (load.on and self.healthy and not self.surging(load))):
                self._load_kw[load.id] = max(0.0, load.p_kw)
        self._update_enter()
        self._update_unmetered()

    def _note_flag(self, device: str, what: str, value: bool | None) -> None:
        if value is not None:
            self._flags[device, what] = (value, self.now_s)

    def flag(self, device: str, what: str, unknown: bool) -> bool:
        """The last reading of a flag, bridged over short gaps; then ``unknown``."""
        value, at = self._flags.get((device, what), (unknown, -1e9))
        return value if self.now_s - at <= self._settings.bridge_s + 1e-9 else unknown

    def _note_soc(self, source: Source, elapsed_s: float) -> None:
        if source.soc is not None:
            self._soc[source.id] = source.soc
        elif source.id in self._soc and source.capacity_kwh:
            out = source.discharge_kw if source.p_kw is None else max(0.0, -source.p_kw)
            self._soc[source.id] -= out * elapsed_s / 3600.0 / source.capacity_kwh

    def soc(self, source: Source) -> float | None:
        """State of charge, at worst; 0 for a store of which it was never known; None where nothing is stored."""
        if source.capacity_kwh is None and source.soc is None:
            return None
        return max(0.0, self._soc.get(source.id, 0.0))

    def running(self, source: Source) -> bool:
        """Whether it runs; if that has been unknown for too long, only if its power shows that it still does.

        To shed people because a status is missing while the source visibly carries them would be no caution.
        """
        shows = source.p_kw is not None and abs(source.p_kw) > _SHOWS_SHARE * source.rating_kw
        return self.flag(source.id, "running", unknown=shows and self._last(source.id, "running"))

    def forming(self, source: Source) -> bool:
        """Whether it forms; if that has been unknown for too long, only if it did and the open island has voltage."""
        shows = self._now.switch is Switch.OPEN and self.alive and self._last(source.id, "forming")
        return self.running(source) and self.flag(source.id, "forming", unknown=shows)

    def _last(self, device: str, what: str) -> bool:
        return self._flags.get((device, what), (False, 0.0))[0]

    @property
    def held_up(self) -> bool:
        """Whether the open island is known to be held within its band by a source that forms.

        A missing frequency is no reason to give it up, nor is a missing voltage while the source gives power.
        """
        image, s = self._now, self._settings
        holding = [x for x in image.sources if x.forming and x.running is not False]
        v, f = image.island.v_pu, image.island.f_hz
        gives = any(x.p_kw is not None and -x.p_kw > _SHOWS_SHARE * x.rating_kw for x in holding)
        voltage = gives if v is None else s.island_v_low_pu <= v <= s.island_v_high_pu
        frequency = f is None or not self._outside(None, f, hard=False)
        return image.switch is Switch.OPEN and bool(holding) and voltage and frequency

    def on(self, load: Load) -> bool:
        """Whether a block draws; it does, if that has been unknown for too long."""
        return self.flag(load.id, "on", unknown=True)

    def surging(self, load: Load) -> bool:
        """Whether it was switched on so lately that its power is inrush."""
        return self.now_s - self._switched_on.get(load.id, -1e9) < self._settings.inrush_s

    def load_kw(self, load: Load) -> float:
        """What a block draws at normal voltage, or will draw when it is switched on [kW, >= 0].

        While the voltage is down it draws less, or nothing, and will draw again: then what it drew before counts.
        """
        last = self._load_kw.get(load.id)
        if load.p_kw is None or self.surging(load):
            return self._settings.unknown_load_kw if last is None else last
        if not self.healthy and last is not None:
            return max(load.p_kw, last)
        return max(0.0, load.p_kw)

    def quiet(self) -> bool:
        """Whether powers can be believed: a healthy island, no block switched lately."""
        return self.healthy and self.now_s - self._last_switching >= self._settings.inrush_s

    def supplied_kw(self) -> float | None:
        """What all sources and the grid supply together [kW]; None if one of them is unknown."""
        image = self._now
        if any(source.p_kw is None for source in image.sources):
            return None
        through = image.exchange_kw if image.switch is not Switch.OPEN else 0.0
        if through is None:
            return None
        return through - sum(source.p_kw or 0.0 for source in image.sources)

    def _update_unmetered(self) -> None:
        supplied = self.supplied_kw()
        if supplied is not None and self.quiet():
            drawn = sum(self.load_kw(load) for load in self._now.loads if self.on(load))
            self.unmetered_kw = max(0.0, supplied - drawn)

    def drawn_kw(self) -> float:
        """What all blocks that are on and everything behind no contactor draw at normal voltage [kW]."""
        return self.unmetered_kw + sum(self.load_kw(load) for load in self._now.loads if self.on(load))
