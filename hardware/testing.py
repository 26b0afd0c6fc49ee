"""The conformance kit for authors of drivers: ``check_driver(driver, vectors)`` in a test of one's own.

The rules: the sign convention is stated and proven by a vector; spans are legal and bring a value together with its
scale factor; a failed, short or misshapen answer never becomes a value; a sentinel is never good; random registers
never raise; nothing is remembered between reads; orders come as timer, fallback, value, enable, each confirmed by its
own words and by no others; what is nonsense or does not fit is refused by a local ``DeviceError`` and never wrapped;
every control can be given back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from core.quality import Reading
from hardware.driver import Control, Driver, Frame, Group, Identity, Order, Ratings, Sample, Span, Step
from hardware.profile_models import Profile
from hardware.profile_types import TYPES, to_words
from hardware.testing_orders import (
    check_controls,
    check_order_vectors,
    check_orders,
    check_refusals,
    check_releases,
)
from hardware.testing_rules import (
    Fault,
    Poke,
    Vector,
    check_facts,
    check_failures,
    check_images,
    check_memory,
    check_spans,
    check_vectors,
)

__all__ = ["Fault", "Poke", "Vector", "check_driver", "driver_faults", "profile_vectors"]

_NAN = {"f32": (0x7FC0, 0), "f64": (0x7FF8, 0, 0, 0)}


def check_driver(
    driver: Driver,
    vectors: Sequence[Vector] | None = None,
    *,
    convention: str = "",
    fresh: Callable[[], Driver] | None = None,
    images: int = 200,
    seed: int = 0,
) -> None:
    """Fail unless the driver keeps every rule.

    Parameters
    ----------
    driver
        The driver; that of a profile brings ``vectors`` and ``convention`` along.
    vectors
        Registers worked out by hand, with readings and frames.
    convention
        In words: which way the device counts power, and what the driver does about it.
    fresh
        Makes the same driver anew, for drivers that remember what they read; one that is not given must not.
    images, seed
        How many random register images are tried, and which.

    Raises
    ------
    AssertionError
        Naming every rule that is broken.
    """
    faults = driver_faults(driver, vectors, convention=convention, fresh=fresh, images=images, seed=seed)
    if faults:
        raise AssertionError(f"{len(faults)} broken rules\n" + "\n".join(map(str, faults)))


def driver_faults(
    driver: Driver,
    vectors: Sequence[Vector] | None = None,
    *,
    convention: str = "",
    fresh: Callable[[], Driver] | None = None,
    images: int = 200,
    seed: int = 0,
) -> tuple[Fault, ...]:
    """The rules that the driver breaks; see `check_driver`."""
    profile = getattr(driver, "profile", None)
    if isinstance(profile, Profile):
        convention = convention or profile.convention
        vectors = profile_vectors(profile) if vectors is None else vectors
    tried = tuple(vectors or ())
    reader: Driver = driver if fresh is None else _Anew(fresh)
    faults = [
        *check_facts(reader, convention, tried),
        *check_spans(driver),
        *check_failures(reader, tried),
        *check_images(reader, tried, images, seed),
        *(check_memory(fresh, tried, images, seed) if fresh is not None else ()),
        *check_vectors(reader, tried),
        *check_controls(reader),
    ]
    if any(fault.rule == "control" for fault in faults):
        return tuple(faults)  # orders of a control without a range would say nothing
    return (
        *faults,
        *check_orders(driver),
        *check_refusals(driver),
        *check_releases(driver),
        *check_order_vectors(driver, tried),
    )


class _Anew:
    """Reads with a new driver each time, so that what one remembers does not reach the next."""

    def __init__(self, fresh: Callable[[], Driver]) -> None:
        self._fresh = fresh
        self._first = fresh()

    @property
    def identity(self) -> Identity:
        return self._first.identity

    @property
    def ratings(self) -> Ratings:
        return self._first.ratings

    @property
    def controls(self) -> Mapping[str, Control]:
        return self._first.controls

    @property
    def gap_s(self) -> float:
        return self._first.gap_s

    def spans(self, group: Group) -> tuple[Span, ...]:
        return self._first.spans(group)

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return self._fresh().decode(samples)

    def encode(self, order: Order) -> tuple[Step, ...]:
        return self._first.encode(order)

    def release(self, control: str) -> tuple[Step, ...]:
        return self._first.release(control)


def profile_vectors(profile: Profile) -> tuple[Vector, ...]:
    """The test vector of a profile, with a poke for every sentinel that it names and a NaN for every float."""
    registers: dict[tuple[int, int], int] = {}
    for block in profile.test_vector.registers:
        function = block.function or profile.link.function
        registers |= {(function, block.address + i): word for i, word in enumerate(block.registers())}
    readings = {
        name: None if isinstance(value, str) else float(value) for name, value in profile.test_vector.readings.items()
    }
    orders = tuple(
        (
            Order(told.control, told.value, told.timer_s, told.fallback),
            tuple(Frame(frame.address, frame.words, frame.function) for frame in told.frames),
        )
        for told in profile.test_vector.orders
    )
    return (Vector(registers, readings, orders, tuple(_pokes(profile))),)


def _pokes(profile: Profile) -> list[Poke]:
    pokes = []
    for name, point in profile.points.items():
        if point.address is None or point.type is None:
            continue
        function = point.function or profile.link.function
        low_first = (point.word_order or profile.link.word_order) == "low-first"
        usual = TYPES[point.type].sentinel
        raws = ((usual,) if usual is not None else ()) if point.sentinels == "usual" else point.sentinels
        pokes += [Poke(name, point.address, to_words(point.type, raw, low_first=low_first), function) for raw in raws]
        if (nan := _NAN.get(point.type)) is not None:
            pokes.append(Poke(name, point.address, tuple(reversed(nan)) if low_first else nan, function))
        if point.factor is not None:
            pokes.append(Poke(name, point.factor, (0x8000,), function))
    return pokes
