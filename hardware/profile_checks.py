"""What is wrong with a profile beyond the types of its keys: names, units, blocks, controls."""

from __future__ import annotations

from collections.abc import Iterator

from hardware.driver import CONTROLS, READINGS
from hardware.profile_models import ControlRegisters, ControlValue, Point, Profile, RatingRegister, Scaled
from hardware.profile_types import TYPES, UNITS, unit_of
from hardware.yaml_source import Place

Finding = tuple[Place, str, str]
"""Place, reason, remedy."""

_RATING_UNITS = {"w": "W", "va": "VA", "var": "var", "charge_w": "W", "discharge_w": "W", "capacity_wh": "Wh", "a": "A"}


def findings(profile: Profile) -> Iterator[Finding]:
    """Everything that keeps the profile from being used."""
    for name, point in profile.points.items():
        yield from _point(profile, name, point)
    for name, control in profile.controls.items():
        yield from _control(profile, name, control)
    for name, unit in _RATING_UNITS.items():
        rating = getattr(profile.ratings, name)
        if isinstance(rating, RatingRegister):
            yield from _unit(("ratings", name), rating.unit, unit)
            if rating.percent_of is not None:
                yield ("ratings", name, "percent_of"), "a rating cannot be a share of a rating", "remove it"
        elif rating is not None and rating < 0.0:
            yield ("ratings", name), "a rating is never negative", "write the magnitude"
    for i, guard in enumerate(profile.guards):
        low, high = guard.covers
        if not low <= high or max(high, guard.address) - min(low, guard.address) >= 65535:
            yield ("guards", i, "covers"), "the first register has to come before the last", "swap the two"
    yield from _overlaps(profile)
    for name in profile.frozen_after or {}:
        if name not in profile.points:
            yield ("frozen_after", name), f"there is no point {name!r}", "name a point of this profile"
    yield from _vector(profile)


def _overlaps(profile: Profile) -> Iterator[Finding]:
    """Registers that two points read differently: one of them is wrong."""
    taken: dict[tuple[int, int], tuple[str, int, str]] = {}
    for name, point in profile.points.items():
        if point.address is None or point.type is None:
            continue
        fields = [(point.address, point.type)] + ([] if point.factor is None else [(point.factor, "i16")])
        for address, kind in fields:
            for register in range(address, address + TYPES[kind].words):
                key = (point.function or profile.link.function, register)
                other, start, known = taken.setdefault(key, (name, address, kind))
                if (start, known) != (address, kind):
                    place = ("points", name, "address")
                    yield place, f"register {register} is also read as {known} by {other!r}", "correct one of the two"
                    return


def _vector(profile: Profile) -> Iterator[Finding]:
    told = {order.control for order in profile.test_vector.orders}
    for name in profile.points:
        if name not in profile.test_vector.readings:
            yield ("test_vector", "readings"), f"says nothing of {name!r}", f"add what {name} should read"
    for name in profile.test_vector.readings:
        if name not in profile.points:
            yield ("test_vector", "readings", name), f"there is no point {name!r}", "name a point of this profile"
    for name in profile.controls:
        if name not in told:
            yield ("test_vector", "orders"), f"orders nothing of {name!r}", f"add an order to {name} and its frames"
    for i, order in enumerate(profile.test_vector.orders):
        if order.control not in profile.controls:
            place = ("test_vector", "orders", i, "control")
            yield place, f"there is no control {order.control!r}", "name a control of this profile"


def _point(profile: Profile, name: str, point: Point) -> Iterator[Finding]:
    place: Place = ("points", name)
    if not name.startswith("x_") and name not in READINGS:
        yield place, f"{name!r} is no standard reading", "use a name of hardware.driver.READINGS, or begin it with x_"
        return
    if point.sum:
        if point.address is not None or point.type is not None:
            yield (*place, "sum"), "a sum has no registers of its own", "remove address and type, or sum"
        for part in point.sum:
            if part not in profile.points or profile.points[part].sum:
                yield (*place, "sum"), f"there is no point {part!r} with registers", "name points of this profile"
        return
    if point.address is None or point.type is None or not point.unit:
        missing = next(key for key in ("address", "type", "unit") if getattr(point, key) in (None, ""))
        yield place, f"the key {missing!r} is missing", f"add `{missing}:`"
        return
    if (want := unit_of(name)) is not None:
        yield from _unit(place, point.unit, want, percent_of=point.percent_of is not None)
    if point.range is not None and not point.range[0] < point.range[1]:
        yield (*place, "range"), "the range is empty", "write [lowest, highest]"
    yield from _fits(profile, place, point.address, TYPES[point.type].words, point.factor, point.function)
    if isinstance(point.sentinels, tuple):
        of = TYPES[point.type]
        for raw in point.sentinels:
            if of.is_float or not of.low <= raw <= of.high:
                yield (*place, "sentinels"), f"{raw} is no raw {point.type}", "write what the registers hold"


def _fits(
    profile: Profile, place: Place, address: int, words: int, factor: int | None, function: int | None = None
) -> Iterator[Finding]:
    """Whether a value, its factor and its guards go into one request."""
    first, last = address, address + words - 1
    if last > 65535:
        yield (*place, "address"), "the last register is beyond 65535", "check the address"
    if factor is not None:
        first, last = min(first, factor), max(last, factor)
    for guard in profile.guards:
        if guard.covers[0] <= address <= guard.covers[1] and function in (None, profile.link.function):
            first, last = min(first, guard.address), max(last, guard.address)
    needed, most = last - first + 1, profile.link.max_registers
    if needed > most:
        yield (
            place,
            f"value, factor and guard take a read of {needed} registers; {most} are allowed",
            "a value and its factor have to come from one read: leave the point out, or use another one",
        )
    for low, high in profile.link.unreadable:
        if first <= high and low <= last:
            yield place, f"the registers {low} .. {high} in its block are unreadable", "correct one of the two"


def _unit(place: Place, given: str, want: str, *, percent_of: bool = False) -> Iterator[Finding]:
    if given not in UNITS:
        known = ", ".join(UNITS)
        yield (*place, "unit"), f"the unit {given!r} is unknown", f"use one of {known}"
    elif percent_of:
        if UNITS[given][0] != "1":
            yield (*place, "unit"), "a share of a rating counts in % or 1", "write `unit: '%'`"
    elif UNITS[given][0] != want:
        yield (*place, "unit"), f"{given} is not a unit of this quantity, which is in {want}", f"use {want}"


def _control(profile: Profile, name: str, control: ControlRegisters) -> Iterator[Finding]:
    place: Place = ("controls", name)
    if name not in CONTROLS:
        yield place, f"{name!r} is no control", f"use one of {', '.join(CONTROLS)}"
        return
    want = unit_of(name) or ""
    yield from _written(profile, (*place, "value"), control.value, want)
    if control.fallback == "chosen" and control.fallback_value is None:
        yield (*place, "fallback"), "a chosen fallback needs its register", "add `fallback_value:`"
    if control.fallback_value is not None:
        yield from _written(profile, (*place, "fallback_value"), control.fallback_value, want)
        if control.fallback != "chosen":
            yield (*place, "fallback_value"), "only a chosen fallback has a register", "write `fallback: chosen`"
    if (control.timer is None) != (control.fallback == "none"):
        yield (*place, "fallback"), "a timer leads somewhere, and nothing falls back without one", "correct one of them"
    ways = [control.enable is not None, control.release is not None, control.release_raw is not None]
    if sum(ways) != 1:
        yield place, "needs exactly one way back: enable, release or release_raw", "say how the device is let go"
    if control.release_raw is not None and control.value.type in ("f32", "f64"):
        yield (*place, "release_raw"), "a float has no raw release", "use release"
    if control.measured_by and control.measured_by not in profile.points:
        yield (*place, "measured_by"), f"there is no point {control.measured_by!r}", "name a point of this profile"
    for i, edge in enumerate(control.range):
        if isinstance(edge, str) and edge.removeprefix("-").removeprefix("rating.") not in _RATING_UNITS:
            yield (*place, "range", i), f"{edge!r} is no rating", "write a number, or rating.w, -rating.charge_w ..."
    if profile.link.write == "fc06":
        for part in (control.value, control.fallback_value, control.timer):
            if part is not None and TYPES[part.type].words > 1:
                yield place, "function 06 writes one register, and a value has more", "write `fc06-single` or `fc16`"


def _written(profile: Profile, place: Place, value: ControlValue | Scaled, want: str) -> Iterator[Finding]:
    yield from _unit(place, value.unit, want, percent_of=value.percent_of is not None)
    yield from _fits(profile, place, value.address, TYPES[value.type].words, value.factor)
