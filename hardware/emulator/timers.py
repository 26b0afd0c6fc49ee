"""Revert timers of emulated devices, with every behaviour that is met in the field.

A control that may be taken back is a `RevertGroup`: its timer register, its enable register, its values, and where they
go when the timer runs out. Model 123 has no fallback value: its limit is *removed*, and the output rises. Model 704
goes to the values in its ``...Rvrt`` registers.

Standard behaviour: the timer starts when the control is enabled with a time other than 0, every write to one of the
group's registers starts it again, and time 0 or disabling stops it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import RegisterBlock

CURVES = (705, 706, 711, 712)
"""Models whose timer goes back to another curve (``RvrtCrv``), or switches the function off (0)."""


class Rearm(enum.StrEnum):
    """What starts a running timer again."""

    GROUP = "group"  # a write to any register of its control: standard
    READ = "read"  # any request at all
    ANY_WRITE = "any-write"  # a write to any register of the device
    SAME_POINT = "same-point"  # only a write to the value itself


@dataclass(frozen=True, slots=True)
class TimerTraits:
    """How a device's revert timers behave; the defaults are the standard.

    Parameters
    ----------
    settable
        False: its registers are not implemented and refuse writes.
    runs
        False: it is stored and counts, and nothing happens at the end.
    factor
        Real seconds per second set: 1.33 is late, 60 takes seconds for minutes.
    rearm
        What starts it again.
    persisted
        Timer and set-point live on over a reboot.
    to_last
        It falls back to the set-point before, not to the default.
    counts
        False: the register of seconds left never moves.
    """

    settable: bool = True
    runs: bool = True
    factor: float = 1.0
    rearm: Rearm = Rearm.GROUP
    persisted: bool = False
    to_last: bool = False
    counts: bool = True


BEHAVIOURS: Mapping[str, TimerTraits] = MappingProxyType(
    {
        "standard": TimerTraits(),
        "none": TimerTraits(settable=False),
        "cosmetic": TimerTraits(runs=False),
        "late": TimerTraits(factor=1.33),
        "rearmed-by-read": TimerTraits(rearm=Rearm.READ),
        "rearmed-by-write": TimerTraits(rearm=Rearm.ANY_WRITE),
        "rearmed-by-same-point": TimerTraits(rearm=Rearm.SAME_POINT),
        "persisted": TimerTraits(persisted=True),
        "minutes": TimerTraits(factor=60.0),
        "revert-to-last": TimerTraits(to_last=True),
        "remaining-stands": TimerTraits(counts=False),
    }
)
"""Behaviours by name, as devices are built with them; the faults of group timers change them while a device runs."""


def traits_now(traits: TimerTraits, board: FaultBoard, now_s: float) -> TimerTraits:
    """A device's traits with the faults that stand; each is logged once, when it is first felt."""
    if board.quiet:
        return traits
    if board.lasting("no-timer", now_s):
        traits = replace(traits, settable=False)
    if board.lasting("cosmetic-timer", now_s):
        traits = replace(traits, runs=False)
    if fault := board.lasting("late-timer", now_s):
        traits = replace(traits, factor=fault.number("factor"))
    if board.lasting("seconds-for-minutes", now_s):
        traits = replace(traits, factor=60.0)
    for kind, rearm in (
        ("rearmed-by-read", Rearm.READ),
        ("rearmed-by-write", Rearm.ANY_WRITE),
        ("rearmed-by-same-point", Rearm.SAME_POINT),
    ):
        if board.lasting(kind, now_s):
            traits = replace(traits, rearm=rearm)
    if board.lasting("timer-persisted", now_s):
        traits = replace(traits, persisted=True)
    if board.lasting("revert-to-last", now_s):
        traits = replace(traits, to_last=True)
    if board.lasting("remaining-stands", now_s):
        traits = replace(traits, counts=False)
    return traits


@dataclass(frozen=True, slots=True)
class RevertGroup:
    """Registers that belong to one timer; names of points.

    Parameters
    ----------
    time
        Its time [s]; also the group's name.
    enable
        The register that is not `idle` while the control is in force.
    values
        Set-points.
    fallback
        What is written when it runs out: point to point (copied from there) or to a number.
    remaining
        Seconds left, empty where there is no such register.
    idle
        Content of ``enable`` while the control is not in force.
    """

    time: str
    enable: str
    values: tuple[str, ...]
    fallback: Mapping[str, str | int]
    remaining: str = ""
    idle: int = 0

    @property
    def points(self) -> tuple[str, ...]:
        """Every register whose writing starts the timer again, in a standard device."""
        return (self.time, self.enable, *self.values)


def _der(stem: str, values: Mapping[str, str], enable: str = "", prefix: str = "704.") -> RevertGroup:
    on = prefix + (enable or stem + "Ena")
    fallback: dict[str, str | int] = {on: f"{on}Rvrt"}
    fallback |= {prefix + value: prefix + source for value, source in values.items()}
    return RevertGroup(
        f"{prefix}{stem}RvrtTms", on, tuple(prefix + v for v in values), fallback, f"{prefix}{stem}RvrtRem"
    )


REVERT_GROUPS: tuple[RevertGroup, ...] = (
    RevertGroup("123.Conn_RvrtTms", "123.Conn", (), {"123.Conn": 1}, idle=1),
    RevertGroup("123.WMaxLimPct_RvrtTms", "123.WMaxLim_Ena", ("123.WMaxLimPct",), {"123.WMaxLim_Ena": 0}),
    RevertGroup("123.OutPFSet_RvrtTms", "123.OutPFSet_Ena", ("123.OutPFSet",), {"123.OutPFSet_Ena": 0}),
    RevertGroup(
        "123.VArPct_RvrtTms",
        "123.VArPct_Ena",
        ("123.VArWMaxPct", "123.VArMaxPct", "123.VArAvalPct", "123.VArPct_Mod"),
        {"123.VArPct_Ena": 0},
    ),
    RevertGroup("124.InOutWRte_RvrtTms", "124.StorCtl_Mod", ("124.InWRte", "124.OutWRte"), {"124.StorCtl_Mod": 0}),
    _der("PFWInj", {"PFWInj.PF": "PFWInjRvrt.PF", "PFWInj.Ext": "PFWInjRvrt.Ext"}),
    _der("PFWAbs", {"PFWAbs.PF": "PFWAbsRvrt.PF", "PFWAbs.Ext": "PFWAbsRvrt.Ext"}),
    _der("WMaxLimPct", {"WMaxLimPct": "WMaxLimPctRvrt"}),
    _der("WSet", {"WSet": "WSetRvrt", "WSetPct": "WSetPctRvrt"}),
    _der("VarSet", {"VarSet": "VarSetRvrt", "VarSetPct": "VarSetPctRvrt"}),
    *(RevertGroup(f"{m}.RvrtTms", f"{m}.Ena", (), {f"{m}.Ena": 0}, f"{m}.RvrtRem") for m in CURVES),
)
"""Every control with a timer in models 123, 124, 704 and the curve models."""


@dataclass(slots=True)
class _Timer:
    group: RevertGroup
    left_s: float | None = None  # nominal seconds; None: not running
    started: float = 0.0  # what it was started with
    before: dict[str, int] = field(default_factory=dict)  # registers before the last change of a set-point


class RevertTimers:
    """The timers of one device; pure, seconds are passed in.

    Parameters
    ----------
    block
        The device's registers; groups whose registers are not there are left out.
    groups
        What has a timer.
    traits
        How they behave, where no fault says otherwise.
    """

    def __init__(
        self, block: RegisterBlock, traits: TimerTraits, groups: Sequence[RevertGroup] = REVERT_GROUPS
    ) -> None:
        self.traits = traits
        self._block = block
        self._timers = [_Timer(group) for group in groups if group.time in block]
        self._times = frozenset(timer.group.time for timer in self._timers)
        if not traits.settable:
            self._without()

    def _without(self) -> None:
        for timer in self._timers:
            self._block.set(timer.group.time, None)

    @property
    def running(self) -> bool:
        """Whether any timer runs."""
        return any(timer.left_s is not None for timer in self._timers)

    def left_s(self, time_point: str) -> float | None:
        """Nominal seconds left of one timer, None while it does not run."""
        return next(timer.left_s for timer in self._timers if timer.group.time == time_point)

    def refuses(self, path: str, traits: TimerTraits) -> bool:
        """Whether a point is a timer that cannot be set."""
        return not traits.settable and path in self._times

    def next_in(self, traits: TimerTraits) -> float:
        """Real seconds until the next one runs out; infinite when none does."""
        if not traits.runs:
            return math.inf
        return min((t.left_s * traits.factor for t in self._timers if t.left_s is not None), default=math.inf)

    def touched(self, traits: TimerTraits) -> None:
        """A request came, of any kind."""
        if traits.rearm is Rearm.READ:
            self._again()

    def wrote(self, paths: Collection[str], before: Mapping[str, int], traits: TimerTraits) -> None:
        """A client has written ``paths``; ``before`` are the registers of all writable points of before."""
        if traits.rearm in {Rearm.READ, Rearm.ANY_WRITE}:
            self._again()
        for timer in self._timers:
            group = timer.group
            touched = [path for path in group.points if path in paths]
            if not touched:
                continue
            set_point = [path for path in (group.enable, *group.values) if path in paths]
            if any(self._block.unsigned(path) != before[path] for path in set_point):
                timer.before = {path: before[path] for path in (group.enable, *group.values) if path in before}
            self._start(timer, restart=traits.rearm is not Rearm.SAME_POINT or any(p in paths for p in group.values))

    def _again(self) -> None:
        for timer in self._timers:
            if timer.left_s is not None:
                timer.left_s = timer.started

    def _start(self, timer: _Timer, *, restart: bool) -> None:
        seconds = self._block.get(timer.group.time)
        if not seconds or self._block.unsigned(timer.group.enable) == timer.group.idle:
            timer.left_s = None
        elif restart or timer.left_s is None:
            timer.left_s = timer.started = seconds

    def advance(self, dt_s: float, traits: TimerTraits) -> bool:
        """Let real seconds pass; True if a timer ran out and its control was taken back."""
        changed = False
        for timer in self._timers:
            if timer.left_s is None:
                continue
            timer.left_s = max(0.0, timer.left_s - dt_s / traits.factor)
            if timer.left_s <= 1e-9 and traits.runs:
                timer.left_s = None
                self._revert(timer, traits)
                changed = True
        return changed

    def _revert(self, timer: _Timer, traits: TimerTraits) -> None:
        block = self._block
        if traits.to_last and timer.before:
            for path, number in timer.before.items():
                block.set_unsigned(path, number)
            return
        for path, source in timer.group.fallback.items():
            if isinstance(source, int):
                block.set_unsigned(path, source)
            elif source in block:
                value = block.get(source)
                if value is not None:  # a fallback that was never given leaves the value alone
                    block.set_unsigned(path, block.unsigned(source))
        model = timer.group.time.partition(".")[0]
        if model.isdigit() and int(model) in CURVES and (curve := self._fallback_curve(model)):
            adopt_curve(block, int(model), curve)
            block.set_unsigned(timer.group.enable, 1)

    def _fallback_curve(self, model: str) -> int:
        path = f"{model}.RvrtCtl" if model == "711" else f"{model}.RvrtCrv"
        return int(self._block.get(path) or 0)

    def expire_all(self, traits: TimerTraits) -> None:
        """Take back every control that is in force, as if all timers ran out (a heartbeat that stopped)."""
        for timer in self._timers:
            if self._block.unsigned(timer.group.enable) != timer.group.idle:
                timer.left_s = None
                self._revert(timer, traits)

    def show(self, traits: TimerTraits) -> None:
        """Write the registers of seconds left."""
        if not traits.settable:
            self._without()
        for timer in self._timers:
            if timer.group.remaining:
                left = 0.0 if timer.left_s is None else timer.left_s if traits.counts else timer.started
                self._block.set(timer.group.remaining, math.ceil(left - 1e-9))

    def kept(self) -> Iterator[str]:
        """Points of the groups: what lives on over a reboot where timers are persisted."""
        for timer in self._timers:
            yield from timer.group.points

    def rebooted(self) -> None:
        """After a reboot: what the registers now say is what runs, from the full time."""
        for timer in self._timers:
            timer.left_s = None
            timer.before = {}
            self._start(timer, restart=True)


def adopt_curve(block: RegisterBlock, model: int, number: int) -> bool:
    """Make curve ``number`` (from 1) of a curve model the active one: its registers are copied to the first.

    False if there is no such curve.
    """
    group = "Ctl" if model == 711 else "Crv"
    prefix, active = f"{model}.{group}[{number - 1}].", f"{model}.{group}[0]."
    found = [cell for cell in block if cell.path.startswith(prefix)]
    for cell in found:
        name = cell.path.removeprefix(prefix)
        if name != "ReadOnly":
            block.set_unsigned(active + name, block.unsigned(cell.path))
    return bool(found)
