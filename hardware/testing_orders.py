"""Rules of the conformance kit about writing: `encode` and `release`. See `hardware.testing`."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence

from core.errors import DeviceError
from hardware.driver import CONTROLS, Control, Driver, Fallback, Order, Step
from hardware.testing_rules import Fault, Vector, names_of

_RANK = {"timer": 0, "fallback": 1, "value": 2, "enable": 3, "release": 4}
_LONGEST_WRITE = 123
_SWITCHES = ("connect", "shed")
_TRIED = 33


def check_controls(driver: Driver) -> Iterator[Fault]:
    """Names, ranges, timers and what shows the effect."""
    names = names_of(driver)
    for name, control in driver.controls.items():
        if name not in CONTROLS or control.name != name:
            yield Fault("control", f"{name!r} ({control.name!r}) is no control")
        if not (math.isfinite(control.low) and math.isfinite(control.high) and control.low <= control.high):
            yield Fault("control", f"{name}: the range {control.low} .. {control.high} is none")
        if not control.resolution > 0.0:
            yield Fault("control", f"{name}: resolution {control.resolution}")
        if control.measured_by and control.measured_by not in names:
            yield Fault("control", f"{name}: its effect is shown by {control.measured_by!r}, which is not read")
        if (control.fallback is Fallback.NONE) != (control.timer_max_s == 0):
            yield Fault("control", f"{name}: fallback {control.fallback} and a timer of {control.timer_max_s} s")


def check_orders(driver: Driver) -> Iterator[Fault]:
    """Every control over its whole range: order of steps, legal frames, read-back, no wrapping."""
    for name, control in driver.controls.items():
        for value in _values(control):
            order = _order(control, value)
            try:
                steps = driver.encode(order)
            except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
                yield Fault("refuses", f"{order}: {error!r}")
                return
            yield from _steps(name, control, steps)
            if steps != driver.encode(order):
                yield Fault("deterministic", f"{name}: the same order is written in two ways")
        yield from _straight(driver, control)
        yield from _fallbacks(driver, control)


def _values(control: Control) -> Sequence[float]:
    if control.name in _SWITCHES:
        return (0.0, 1.0)
    width = control.high - control.low
    return [control.low + width * i / (_TRIED - 1) for i in range(_TRIED)]


def _order(control: Control, value: float, fallback: float | None = None) -> Order:
    return Order(control.name, value, min(20, control.timer_max_s), fallback)


def _steps(name: str, control: Control, steps: tuple[Step, ...]) -> Iterator[Fault]:
    purposes = [step.purpose for step in steps]
    ranks = [_RANK.get(purpose, -1) for purpose in purposes]
    if ranks != sorted(ranks) or -1 in ranks or purposes.count("value") != 1:
        yield Fault(
            "order", f"{name}: the steps are {', '.join(purposes)}: timer, fallback, value, enable is the order"
        )
    if (control.timer_max_s > 0) != (purposes[:1] == ["timer"]):
        yield Fault("timer first", f"{name}: the steps are {', '.join(purposes)}, the timer {control.timer_max_s} s")
    for step in steps:
        yield from _step(name, step)


def _step(name: str, step: Step) -> Iterator[Fault]:
    frame, check = step.frame, step.check
    legal = frame.words and len(frame.words) <= _LONGEST_WRITE and all(0 <= word <= 0xFFFF for word in frame.words)
    if not legal or not 0 <= frame.address <= (1 << 16) - len(frame.words):
        yield Fault("frame", f"{name}, {step.purpose}: {frame} is no legal write")
    if frame.function not in (6, 16) or (frame.function == 6 and len(frame.words) != 1):
        yield Fault("frame", f"{name}, {step.purpose}: function {frame.function} with {len(frame.words)} registers")
    if len(step.expected) != check.count:
        yield Fault("read-back", f"{name}, {step.purpose}: {len(step.expected)} words expected of {check.count}")
        return
    at = frame.address - check.address
    if at < 0 or at + len(frame.words) > check.count or check.function != 3:
        yield Fault("read-back", f"{name}, {step.purpose}: {check} does not read what {frame} writes")
        return
    back = tuple(0 if word is None else word for word in step.expected)
    if not step.confirmed(back) or back[at : at + len(frame.words)] != frame.words:
        yield Fault("read-back", f"{name}, {step.purpose}: its own words do not confirm it")
    for i in range(at, at + len(frame.words)):
        if step.confirmed((*back[:i], back[i] ^ 1, *back[i + 1 :])):
            yield Fault(
                "read-back", f"{name}, {step.purpose}: another word in register {check.address + i} confirms it"
            )


def _straight(driver: Driver, control: Control) -> Iterator[Fault]:
    """The written number grows evenly with the value on either side of 0; one that wraps or is cut off does not."""
    if control.name in _SWITCHES or control.low == control.high:
        return
    values = _values(control)
    written = [_value_words(driver.encode(_order(control, value))) for value in values]
    if any(words is None for words in written):
        return  # already said
    shown = [words for words in written if words]
    readers = [*_READ_AS, *(_nth(read, i) for read in (_unsigned, _signed) for i in range(len(shown[0])))]
    sides = [
        [i for i, value in enumerate(values) if value <= 0.0],
        [i for i, value in enumerate(values) if value >= 0.0],
    ]
    if not any(
        all(_is_line([values[i] for i in side], [read(shown[i]) for i in side]) for side in sides if len(side) > 1)
        for read in readers
    ):
        yield Fault(
            "never wraps", f"{control.name}: what is written does not grow evenly from {values[0]:g} to {values[-1]:g}"
        )


def _value_words(steps: tuple[Step, ...]) -> tuple[int, ...] | None:
    return next((step.frame.words for step in steps if step.purpose == "value"), None)


def _unsigned(words: tuple[int, ...]) -> float:
    return float(int.from_bytes(b"".join(word.to_bytes(2, "big") for word in words), "big"))


def _signed(words: tuple[int, ...]) -> float:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return float(int.from_bytes(data, "big", signed=True))


def _single(words: tuple[int, ...]) -> float:
    if len(words) != 2:
        return math.nan
    return float(struct.unpack(">f", struct.pack(">2H", *words))[0])


def _swapped(read: Callable[[tuple[int, ...]], float]) -> Callable[[tuple[int, ...]], float]:
    return lambda words: read(tuple(reversed(words)))


def _nth(read: Callable[[tuple[int, ...]], float], i: int) -> Callable[[tuple[int, ...]], float]:
    return lambda words: read(words[i : i + 1])


_READ_AS = (_unsigned, _signed, _single, _swapped(_unsigned), _swapped(_signed), _swapped(_single))


def _is_line(values: Sequence[float], numbers: Sequence[float]) -> bool:
    """Whether ``numbers`` lie on a line over ``values``, to one step of a register and float32's precision."""
    if not all(map(math.isfinite, numbers)) or numbers[0] == numbers[-1]:
        return False
    slope = (numbers[-1] - numbers[0]) / (values[-1] - values[0])
    slack = 1.5 + 1e-6 * max(map(abs, numbers))
    return all(
        abs(numbers[0] + slope * (value - values[0]) - number) <= slack
        for value, number in zip(values, numbers, strict=True)
    )


def _fallbacks(driver: Driver, control: Control) -> Iterator[Fault]:
    """A chosen fallback is written before the value; one that cannot be chosen is refused."""
    order = _order(control, control.high, control.low)
    if control.fallback is not Fallback.CHOSEN:
        yield from _must_refuse(driver, order, "a fallback that cannot be chosen")
        return
    try:
        purposes = [step.purpose for step in driver.encode(order)]
    except DeviceError as error:
        yield Fault("refuses", f"{order}: {error}")
        return
    if "fallback" not in purposes or purposes.index("fallback") > purposes.index("value"):
        yield Fault("order", f"{control.name}: the chosen fallback is not written before the value: {purposes}")


def check_refusals(driver: Driver) -> Iterator[Fault]:
    """Nonsense is refused by us, before the wire."""
    yield from _must_refuse(driver, Order("x_nothing", 1.0, 20), "an unknown control")
    for name, control in driver.controls.items():
        timer_s = min(20, control.timer_max_s)
        beyond = max(control.resolution, 1e-3 * (control.high - control.low), 1.0)
        for value in (math.nan, math.inf, -math.inf, control.high + beyond, control.low - beyond, 1e300, -1e300):
            yield from _must_refuse(driver, Order(name, value, timer_s), f"the value {value}")
        for wrong_s in (-1, control.timer_max_s + 1, *([0] if control.timer_max_s else [])):
            value = 1.0 if name in _SWITCHES else control.high
            yield from _must_refuse(driver, Order(name, value, wrong_s), f"a timer of {wrong_s} s")
        if name in _SWITCHES:
            yield from _must_refuse(driver, Order(name, 0.5, timer_s), "a switch at 0.5")


def _must_refuse(driver: Driver, order: Order, what: str) -> Iterator[Fault]:
    try:
        driver.encode(order)
    except DeviceError as error:
        if not error.local:
            yield Fault("refuses", f"{order.control}: {what} is blamed on the device")
    except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
        yield Fault("refuses", f"{order.control}: {what} raises {error!r}, not a DeviceError")
    else:
        yield Fault("refuses", f"{order.control}: {what} is written to the device")


def check_releases(driver: Driver) -> Iterator[Fault]:
    """Every control can be given back, and only controls can."""
    for name in driver.controls:
        try:
            steps = driver.release(name)
        except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
            yield Fault("release", f"{name}: {error!r}")
            continue
        if all(step.purpose != "release" for step in steps):
            yield Fault("release", f"{name}: cannot be given back")
        for step in steps:
            yield from _step(name, step)
    try:
        driver.release("x_nothing")
    except DeviceError as error:
        if not error.local:
            yield Fault("release", "an unknown control is blamed on the device")
    except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
        yield Fault("release", f"an unknown control raises {error!r}, not a DeviceError")
    else:
        yield Fault("release", "an unknown control is released")


def check_order_vectors(driver: Driver, vectors: tuple[Vector, ...]) -> Iterator[Fault]:
    """Orders of the vectors lead to their frames, bit by bit; every control has one."""
    told = set()
    for number, vector in enumerate(vectors):
        for order, frames in vector.orders:
            told.add(order.control)
            try:
                found = tuple(step.frame for step in driver.encode(order))
            except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
                yield Fault("vector", f"{number}: {order}: {error!r}")
                continue
            if found != frames:
                yield Fault("vector", f"{number}: {order} is written as {found}, not as {frames}")
    for name in driver.controls:
        if name not in told:
            yield Fault("vector", f"no vector orders {name}")
