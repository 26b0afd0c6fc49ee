"""The driver of SunSpec devices: inverters, storages and meters, whatever models they have.

`discover` reads what a device has and makes a `SunSpecDriver` of it. See `measurements` for signs and preferences,
`controls` and `storage_control` for what is written, `plan` for how torn answers are noticed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import Control, Fallback, Group, Identity, Order, Ratings, Sample, Span, Step
from hardware.sunspec.codec import INTEGERS
from hardware.sunspec.controls import (
    CHARGE,
    CONNECT_123,
    CONNECT_703,
    DISCHARGE,
    LIMIT_123,
    LIMIT_704,
    Scheme,
    SetPower,
    preferred,
)
from hardware.sunspec.definitions import HEADER_WORDS
from hardware.sunspec.guards import Mark, mark_of, running
from hardware.sunspec.measurements import measurements
from hardware.sunspec.plan import Block, Source, block_of, readings_of
from hardware.sunspec.registers import Registers
from hardware.sunspec.scan import BASES, MOST_REGISTERS, Scan, scan
from hardware.sunspec.storage_control import CHARGE_LIMIT, DISCHARGE_LIMIT, WindowPower

SCHEMES: tuple[Scheme, ...] = (
    LIMIT_704,
    LIMIT_123,
    SetPower(),
    WindowPower(),
    CHARGE_LIMIT,
    DISCHARGE_LIMIT,
    CONNECT_123,
    CONNECT_703,
)
"""Ways of carrying out controls, best first."""

SETTINGS = (1, 120, 121, 702)
"""Models that are read again with `Group.ONCE`, and 121 and 702, which percentages refer to, with `Group.SLOW`."""
_REREAD = frozenset({121, 702})
_CONTROLLING = frozenset({123, 124, 703, 704, 715})
_AT_ONCE = 1  # the common model: a changed serial number has to be seen at once, and nothing is computed from it

_THREE_PHASES = frozenset({103, 113})
_SPLIT_PHASES = frozenset({102, 112})
_COUNTER_MARGIN = 3.0
_UNKNOWN_W = 1e6
_IN_DOUBT = "a setting or scale factor that it depends on has just changed"


class SunSpecDriver:
    """One SunSpec device. Implements `hardware.driver.Driver`.

    Not pure in one respect: it remembers the registers of its settings and the last scale factors and counters, from
    what `decode` is given, to notice what changed.

    Parameters
    ----------
    found
        What `scan` returned.
    part
        Which device of the map, from 0: some inverters show their meter behind a second common model.
    meter_sign
        -1 for meters that count what is fed in as positive, against the specification.
    single_writes
        True for devices that only know function 6.
    gap_s
        Shortest pause between two requests [s].

    Raises
    ------
    DeviceError
        Local, if the map has no such part or ``meter_sign`` is neither 1 nor -1.
    """

    def __init__(
        self, found: Scan, *, part: int = 0, meter_sign: int = 1, single_writes: bool = False, gap_s: float = 0.0
    ) -> None:
        parts = found.parts()
        if not 0 <= part < len(parts):
            raise DeviceError(f"the map has {len(parts)} devices, not one with number {part}", local=True)
        if meter_sign not in {1, -1}:
            raise DeviceError(f"meter_sign is 1 or -1, not {meter_sign}", local=True)
        self._scan = found
        self._gap_s = gap_s
        self._registers = Registers(parts[part], found.max_registers, single_writes=single_writes)
        self._schemes = preferred(self._registers, SCHEMES)
        sources = {source.reading: source for scheme in self._schemes.values() for source in scheme.sources()}
        for source in measurements(self._registers, meter_sign=meter_sign):
            sources.setdefault(source.reading, source)
        self._ratings = _ratings(self._registers)
        self._blocks = self._plan(tuple(sources.values()))
        self._places = self._settings_places()
        self._controls: Mapping[str, Control] = {}
        self._doubted: dict[Span, tuple[tuple[int, ...], Mark]] = {}
        self._refresh()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """From the common model; follows it when `decode` sees it changed."""
        return self._identity

    @property
    def ratings(self) -> Ratings:
        """Nameplate: model 702, else 120, 713 and 802. In the driver's units, none negative."""
        return self._ratings

    @property
    def controls(self) -> Mapping[str, Control]:
        """What the device can be told: the same for as long as the driver lives. Ranges follow the setting WMax."""
        return self._controls

    @property
    def gap_s(self) -> float:
        """Shortest pause between two requests [s]."""
        return self._gap_s

    @property
    def models(self) -> tuple[int, ...]:
        """Numbers of the models that are used, in the order of registers."""
        return tuple(self._registers.models)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What looked wrong with the map."""
        return self._scan.remarks

    def source_of(self, reading: str) -> str:
        """The point that a reading comes from, ``701.W``; empty if there is no such reading."""
        for block in self._blocks:
            for item in block.items:
                if item.source.reading == reading:
                    return f"{item.source.model}.{item.source.path}"
        return ""

    # --- reading ----------------------------------------------------------------------------------------------------

    def spans(self, group: Group) -> tuple[Span, ...]:
        """What to read, in this order. Ask anew in every cycle.

        A request that serves several groups is in the most frequent one only, and a setting that seems to have changed
        is in all of them until it has been read the same twice.
        """
        spans = [span for block in self._blocks if block.group is group for span, _ in block.requests]
        spans += [
            span
            for span, (model, _) in self._places.items()
            if model in SETTINGS
            and (group is Group.ONCE or (group is Group.SLOW and model in _REREAD) or span in self._doubted)
        ]
        return tuple(dict.fromkeys(spans))

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        """Readings by name. Never raises for what a device may send."""
        self._learn(samples)
        readings: dict[str, Reading] = {}
        for block in self._blocks:
            readings |= readings_of(block, samples)
        for scheme in self._schemes.values():
            scheme.derive(self._registers, readings)
        limit = readings.get("limit_w")
        if self._doubted and limit is not None and limit.value is not None:
            readings["limit_w"] = replace(limit, value=None, quality=Quality.COMM_FAIL, reason=_IN_DOUBT)
        if (state := readings.get("state")) is not None:  # held against power and connection by whoever judges
            readings["x_running"] = running(self.source_of("state"), state)
        return {name: reading for name, reading in readings.items() if not name.startswith("_")}

    # --- telling ----------------------------------------------------------------------------------------------------

    def encode(self, order: Order) -> tuple[Step, ...]:
        """The writes that carry out ``order``: timer, fallback, value, enable.

        Raises
        ------
        DeviceError
            Local: unknown control, value or fallback out of range or NaN, a timer that the device cannot hold, a
            fallback for a control that does not let it be chosen, a missing scale factor, or a setting or factor that
            has just changed and was not read a second time.
        """
        scheme = self._scheme(order.control)
        control = self._controls[order.control]
        if self._doubted:
            raise DeviceError(f"{order.control}: {_IN_DOUBT}; nothing was sent", local=True, remedy="read it again")
        _check_amount(order.value, control, "value")
        if order.fallback is not None:
            if control.fallback is not Fallback.CHOSEN:
                raise DeviceError(
                    f"{order.control}: the fallback of this device is '{control.fallback}' and cannot be chosen; "
                    "nothing was sent",
                    local=True,
                )
            _check_amount(order.fallback, control, "fallback")
        low = 1 if control.timer_max_s else 0
        if isinstance(order.timer_s, bool) or not isinstance(order.timer_s, int):
            raise DeviceError(f"{order.control}: a timer has whole seconds, not {order.timer_s!r}", local=True)
        if not low <= order.timer_s <= control.timer_max_s:
            raise DeviceError(
                f"{order.control}: a timer of {order.timer_s} s is not possible ({low} .. {control.timer_max_s} s); "
                "nothing was sent",
                local=True,
            )
        return scheme.encode(self._registers, order)

    def release(self, control: str) -> tuple[Step, ...]:
        """The writes that take a control back; the first one is what ends it, the others leave no traces."""
        return self._scheme(control).release(self._registers)

    def controller_heartbeat(self, count: int) -> tuple[Step, ...]:
        """The write that tells the device that its controller lives (715.ControllerHb), if it has such a point.

        Raises
        ------
        DeviceError
            Local, if the device has no such point.
        """
        beat = count % INTEGERS["uint32"].high
        return self._registers.steps("value", 715, {"ControllerHb": beat})

    def _scheme(self, name: str) -> Scheme:
        scheme = self._schemes.get(name)
        if scheme is None:
            known = ", ".join(self._controls) or "nothing"
            raise DeviceError(f"{self._identity.model} cannot be told {name!r}, only {known}", local=True)
        return scheme

    # --- keeping up with the device -----------------------------------------------------------------------------------

    def _plan(self, sources: Sequence[Source]) -> tuple[Block, ...]:
        by_model: dict[int, list[Source]] = {}
        for source in sources:
            if self._registers.point(source.model, source.path) is not None:
                by_model.setdefault(source.model, []).append(source)
        most_w = max(self._ratings.w or 0.0, self._ratings.charge_w or 0.0) * _COUNTER_MARGIN or _UNKNOWN_W
        return tuple(
            block
            for model, wanted in by_model.items()
            if (block := block_of(self._registers, model, wanted, counter_w=most_w)).items
        )

    def _settings_places(self) -> dict[Span, tuple[int, int]]:
        """Requests that read settings again: span to model and offset."""
        places: dict[Span, tuple[int, int]] = {}
        for block in self._blocks:
            if block.model in _CONTROLLING:
                places |= {span: (block.model, offset) for span, offset in block.requests}
        most = self._registers.max_registers
        for model in SETTINGS:
            found = self._registers.models.get(model)
            if found is not None:
                for offset in range(0, len(found.words), most):
                    count = min(most, len(found.words) - offset)
                    places[Span(found.address + offset, count)] = (model, offset)
        return places

    def _learn(self, samples: Mapping[Span, Sample]) -> None:
        """Take over settings and what controls hold; identity, ratings and controls follow."""
        changed = False
        for span, sample in samples.items():
            place = self._places.get(span)
            words = sample.words
            if place is None or words is None or len(words) != span.count:
                continue
            model, offset = place
            known = self._registers.models[model].words[offset : offset + len(words)]
            if known == words:
                self._doubted.pop(span, None)
                continue
            if offset == 0 and words[:HEADER_WORDS] != known[:HEADER_WORDS]:
                continue  # another map: readings say so
            if self._to_be_confirmed(model, offset, words):
                before = self._doubted.get(span)
                mark = mark_of(sample)
                if before is None or before[0] != words or before[1] == mark:
                    self._doubted[span] = (words, mark)
                    continue
                del self._doubted[span]
            self._registers.absorb(model, offset, words)
            changed = True
        if changed:
            self._refresh()

    def _to_be_confirmed(self, model: int, offset: int, words: tuple[int, ...]) -> bool:
        """Whether changed registers have to be read twice: settings, and everything beside a changed scale factor."""
        if model in SETTINGS:
            return model != _AT_ONCE
        known = self._registers.models[model].words
        return any(
            known[at] != words[at - offset]
            for at in self._registers.factors(model)
            if offset <= at < offset + len(words)
        )

    def _refresh(self) -> None:
        registers = self._registers
        mn, md, sn, vr, opt = (registers.text(_AT_ONCE, path) for path in ("Mn", "Md", "SN", "Vr", "Opt"))
        self._identity = Identity(mn, md, sn, vr, opt)
        self._ratings = _ratings(registers)
        names = {item.source.reading for block in self._blocks for item in block.items}
        controls = {}
        for name, scheme in self._schemes.items():
            # A factor that is missing for a moment takes no control away: orders are refused, a release is not.
            control = scheme.control(registers) or self._controls.get(name)
            if control is not None:
                shown = control.measured_by if control.measured_by in names else ""
                controls[name] = replace(control, measured_by=shown)
        self._controls = MappingProxyType(controls)


def _check_amount(value: float, control: Control, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DeviceError(f"{control.name}: {what} {value!r} is no number; nothing was sent", local=True)
    if not control.low <= value <= control.high:  # also refuses NaN
        raise DeviceError(
            f"{control.name}: {what} {value!r} is outside {control.low:g} .. {control.high:g}; nothing was sent",
            local=True,
        )


def _ratings(registers: Registers) -> Ratings:
    def first(*choices: tuple[int, str]) -> float | None:
        value = registers.first(choices)
        return None if value is None else abs(value)

    amperes = registers.first([(702, "AMaxRtg")])
    if amperes is None and (together := registers.first([(120, "ARtg")])) is not None:
        # Model 120 counts all phases together.
        models = registers.models.keys()
        amperes = together / (3 if models & _THREE_PHASES else 2 if models & _SPLIT_PHASES else 1)
    return Ratings(
        w=first((702, "WMaxRtg"), (120, "WRtg")),
        va=first((702, "VAMaxRtg"), (120, "VARtg")),
        var=first((702, "VarMaxInjRtg"), (120, "VArRtgQ1")),
        charge_w=first(*_nameplate_first(CHARGE)),
        discharge_w=first(*_nameplate_first(DISCHARGE)),
        capacity_wh=first((713, "WHRtg"), (802, "WHRtg"), (120, "WHRtg")),
        a=amperes,
    )


def _nameplate_first(choices: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    return sorted(choices, key=lambda choice: not choice[1].endswith("Rtg"))


async def discover(
    read: Callable[[Span], Awaitable[Sample]],
    *,
    bases: Sequence[int] = BASES,
    max_registers: int = MOST_REGISTERS,
    part: int = 0,
    meter_sign: int = 1,
    single_writes: bool = False,
    gap_s: float = 0.0,
) -> SunSpecDriver:
    """Find out what a device has, through ``read``, and make its driver. Parameters as `scan` and `SunSpecDriver`.

    Raises
    ------
    DeviceError
        Remote, if there is no SunSpec map or the device stopped answering.
    """
    asking = scan(bases, max_registers)
    try:
        span = next(asking)
        while True:
            span = asking.send(await read(span))
    except StopIteration as end:
        found: Scan = end.value
    return SunSpecDriver(found, part=part, meter_sign=meter_sign, single_writes=single_writes, gap_s=gap_s)
