"""Which points the standard readings come from, by model and preference, with their signs.

SunSpec counts what an inverter feeds in as positive (models 101-113 and 701: *positive for DER generation*), and a
meter what is drawn from the grid (models 201-214: imported is positive). Readings are in the load convention, so the
power of inverters changes its sign and that of meters does not. Some meters count the other way round against the
specification (SolarEdge documents it): ``meter_sign`` -1 turns powers of a meter, not its two energy counters.

The sign of power factors is not uniform between devices (IEC or EEI): only model 701 defines it, of the others the
magnitude is given. State of charge, in percent on the wire, is a share here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hardware.driver import Group
from hardware.sunspec.plan import Source
from hardware.sunspec.registers import Registers

FAST, SLOW = Group.FAST, Group.SLOW

INVERTERS = (101, 102, 103, 111, 112, 113)
METERS = (201, 202, 203, 204, 211, 212, 213, 214)
MEASURING = (701, *reversed(INVERTERS), *reversed(METERS))
"""Models that measure at the AC terminals, best first. The first that has ``W`` is the one that readings come from."""

STORAGE_PORT = 1
"""Port type ESS of model 714."""
_MOST_PORTS = 8


def _energy(reading: str, model: int, path: str) -> Source:
    return Source(reading, SLOW, model, path, low=0, counter=True)


def _der(model: int) -> list[Source]:
    """Model 701."""
    return [
        Source("w", FAST, model, "W", -1),
        Source("w_a", FAST, model, "WL1", -1),
        Source("w_b", FAST, model, "WL2", -1),
        Source("w_c", FAST, model, "WL3", -1),
        Source("va", FAST, model, "VA", 0),
        Source("var", FAST, model, "Var", -1),
        Source("pf", FAST, model, "PF", -1, low=-1, high=1),
        Source("hz", FAST, model, "Hz", low=0),
        Source("v_a", FAST, model, "VL1"),
        Source("v_b", FAST, model, "VL2"),
        Source("v_c", FAST, model, "VL3"),
        Source("a", FAST, model, "A", 0),
        Source("a_a", FAST, model, "AL1", 0),
        Source("a_b", FAST, model, "AL2", 0),
        Source("a_c", FAST, model, "AL3", 0),
        Source("state", FAST, model, "InvSt"),
        Source("state", FAST, model, "St"),
        Source("connected", FAST, model, "ConnSt", low=0, high=1),
        Source("alarms", FAST, model, "Alrm"),
        Source("temperature_c", SLOW, model, "TmpCab"),
        _energy("exported_wh", model, "TotWhInj"),
        _energy("imported_wh", model, "TotWhAbs"),
    ]


def _inverter(model: int) -> list[Source]:
    """Models 101 to 103 and 111 to 113."""
    return [
        Source("w", FAST, model, "W", -1),
        Source("va", FAST, model, "VA", 0),
        Source("var", FAST, model, "VAr", -1),
        Source("pf", FAST, model, "PF", 0, -2, low=0, high=1),
        Source("hz", FAST, model, "Hz", low=0),
        Source("v_a", FAST, model, "PhVphA"),
        Source("v_b", FAST, model, "PhVphB"),
        Source("v_c", FAST, model, "PhVphC"),
        Source("a", FAST, model, "A", 0),
        Source("a_a", FAST, model, "AphA", 0),
        Source("a_b", FAST, model, "AphB", 0),
        Source("a_c", FAST, model, "AphC", 0),
        Source("state", FAST, model, "St"),
        Source("alarms", FAST, model, "Evt1"),
        Source("temperature_c", SLOW, model, "TmpCab"),
        _energy("exported_wh", model, "WH"),
        Source("dc_w", FAST, model, "DCW"),
    ]


def _meter(model: int, sign: int) -> list[Source]:
    """Models 201 to 204 and 211 to 214."""
    return [
        Source("w", FAST, model, "W", sign),
        Source("w_a", FAST, model, "WphA", sign),
        Source("w_b", FAST, model, "WphB", sign),
        Source("w_c", FAST, model, "WphC", sign),
        Source("va", FAST, model, "VA", 0),
        Source("var", FAST, model, "VAR", sign),
        Source("pf", FAST, model, "PF", 0, -2, low=0, high=1),
        Source("hz", FAST, model, "Hz", low=0),
        Source("v_a", FAST, model, "PhVphA"),
        Source("v_b", FAST, model, "PhVphB"),
        Source("v_c", FAST, model, "PhVphC"),
        Source("a", FAST, model, "A", 0),
        Source("a_a", FAST, model, "AphA", 0),
        Source("a_b", FAST, model, "AphB", 0),
        Source("a_c", FAST, model, "AphC", 0),
        Source("alarms", SLOW, model, "Evt"),
        _energy("imported_wh", model, "TotWhImp"),
        _energy("exported_wh", model, "TotWhExp"),
    ]


def _storage() -> list[Source]:
    """State of a storage; the same quantity from a second model has the model's number in its name (R19)."""
    share: Callable[[str, Group, int, str], Source] = lambda reading, group, model, path: Source(  # noqa: E731
        reading, group, model, path, shift=-2, low=0, high=1
    )
    return [
        share("soc", FAST, 713, "SoC"),
        share("soc", FAST, 802, "SoC"),
        share("soc", FAST, 124, "ChaState"),
        share("x_soc_802", SLOW, 802, "SoC"),
        share("x_soc_124", SLOW, 124, "ChaState"),
        Source("capacity_wh", SLOW, 713, "WHRtg"),
        Source("capacity_wh", SLOW, 802, "WHRtg"),
        Source("capacity_wh", SLOW, 120, "WHRtg"),
        Source("stored_wh", SLOW, 713, "WHAvail"),
        Source("heartbeat", FAST, 715, "DERHb"),
        Source("heartbeat", FAST, 802, "Hb"),
        Source("x_local", FAST, 715, "LocRemCtl", low=0, high=1),
        Source("x_local", FAST, 802, "LocRemCtl", low=0, high=1),
        Source("connected", FAST, 122, "PVConn", bit=0),
        Source("connected", FAST, 122, "StorConn", bit=0),
        Source("alarms", SLOW, 802, "Evt1"),
        Source("state", FAST, 802, "State"),
    ]


def _direct_current(registers: Registers) -> list[Source]:
    """The DC side: totals, every port, and the port of the battery as a load (positive charges)."""
    sources = [Source("dc_w", FAST, 714, "DCW")]
    for port in range(_MOST_PORTS):
        path = f"Prt[{port}].DCW"
        if registers.raw(714, f"Prt[{port}].PrtTyp") == STORAGE_PORT:
            sources.append(Source("x_battery_w", FAST, 714, path, -1))
        sources.append(Source(f"x_dc_w_{port}", FAST, 714, path))
        sources.append(Source(f"x_dc_w_{port}", SLOW, 160, f"module[{port}].DCW"))
    return sources


def measurements(registers: Registers, *, meter_sign: int = 1) -> tuple[Source, ...]:
    """The source of every reading that the device has, one per reading.

    A reading comes from the first model in the order of preference that implements it when it is looked at first; if
    none does, from the first that has registers for it, which then say *not implemented*.
    """
    measuring = next((m for m in MEASURING if registers.raw(m, "W") is not None), None)
    if measuring is None:
        measuring = next((m for m in MEASURING if registers.point(m, "W") is not None), None)
    candidates: list[Source] = []
    for model in MEASURING:
        if model in METERS:
            group = _meter(model, meter_sign) if model == measuring else []
        else:
            group = _der(model) if model == 701 else _inverter(model)
        # A second measuring model only gives what is wanted seldom: it would cost a request in every cycle.
        candidates += [source for source in group if model == measuring or source.group is SLOW]
    candidates += [*_storage(), *_direct_current(registers)]
    return _chosen(registers, candidates)


def _chosen(registers: Registers, candidates: Sequence[Source]) -> tuple[Source, ...]:
    chosen: dict[str, Source] = {}
    implemented: dict[str, bool] = {}
    for source in candidates:
        if registers.point(source.model, source.path) is None:
            continue
        value = registers.value(source.model, source.path)
        good = value is not None and math.isfinite(value)
        if source.reading not in chosen or (good and not implemented[source.reading]):
            chosen[source.reading], implemented[source.reading] = source, good
    for reading, model in (("x_soc_802", 802), ("x_soc_124", 124)):
        if reading in chosen and ("soc" not in chosen or chosen["soc"].model == model):
            del chosen[reading]
    return tuple(chosen.values())
