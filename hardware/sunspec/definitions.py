"""SunSpec models as data: what points a model has, and at which register each lies in a concrete instance.

Two steps. A `ModelDefinition` (`definition(704)`) is the model as the SunSpec Alliance publishes it: groups of points,
some of them repeated. A `ModelLayout` is one instance, with every repetition counted out and every point at an offset::

    layout = ModelLayout.of(705, {"NCrv": 2, "NPt": 4})      # two curves of four points each
    layout.length                                            # what register L has to say
    layout["Crv[1].Pt[0].V"].offset                          # counted from the register that holds the model's id
    layout.start_words()                                     # [705, length]: the first two registers

Offsets count from the register of the model id: ID lies at 0, L at 1, the first point at 2; ``L`` is the number of
registers behind itself. Repeated groups are numbered from 0, as ``Group[i].Point``; groups that are not repeated are
``Group.Point``; points of the model itself have their bare name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from core.errors import DeviceError

HEADER_WORDS = 2
"""Registers ID and L before the first point."""

LONGEST = 0xFFFF
"""No model is longer than register L can say."""


@dataclass(frozen=True, slots=True)
class PointDefinition:
    """One point of a group.

    Parameters
    ----------
    name
        As published, ``WMaxLimPct``.
    type
        SunSpec type, see `hardware.sunspec.codec`.
    size
        Registers.
    scale
        Name of the point that holds its power of ten, a fixed power of ten, or None (unscaled).
    units
        As published, may be empty.
    writable, mandatory, static
        As published; ``static`` points do not change while the device runs.
    symbols
        Of an enumeration: name to value; of a bit field: name to bit number.
    """

    name: str
    type: str
    size: int
    scale: str | int | None
    units: str
    writable: bool
    mandatory: bool
    static: bool
    symbols: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """Points that lie behind each other, and after them the groups inside.

    ``count`` is how often it repeats: a number, the name of the point that says it, or 0 (as often as the model's
    length has room for). ``sync`` groups are written in one request.
    """

    name: str
    count: int | str
    sync: bool
    points: tuple[PointDefinition, ...]
    groups: tuple[GroupDefinition, ...]


@dataclass(frozen=True, slots=True)
class ModelDefinition:
    """A published model; ``group`` is its outermost group, whose first two points are ID and L."""

    id: int
    label: str
    group: GroupDefinition

    @property
    def name(self) -> str:
        """Name of its outermost group, ``DERCtlAC``."""
        return self.group.name

    def count_names(self) -> frozenset[str]:
        """Names of the points that say how often groups repeat (``NCrv``, ``NPt``)."""
        return frozenset(name for name in _counts(self.group) if isinstance(name, str))

    def fixed_points(self) -> Mapping[str, PlacedPoint]:
        """The points of the outermost group itself, which lie at the same offsets in every instance."""
        return ModelLayout.of(self.id, dict.fromkeys(self.count_names(), 0), repeats=0).points


@dataclass(frozen=True, slots=True)
class PlacedPoint:
    """A point of a concrete instance.

    ``offset`` counts from the register of the model id. ``scale`` is a fixed power of ten, and ``scale_offset`` the
    offset of the register that holds it, None when no register does.
    """

    path: str
    offset: int
    definition: PointDefinition
    scale: int = 0
    scale_offset: int | None = None

    @property
    def type(self) -> str:
        """SunSpec type."""
        return self.definition.type

    @property
    def size(self) -> int:
        """Registers."""
        return self.definition.size


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """One instance of a model with every point at its offset. Made by `ModelLayout.of`.

    ``length`` is the value of register L: registers behind the first two. ``points`` are in the order of registers
    and start with ID and L.
    """

    definition: ModelDefinition
    length: int
    points: Mapping[str, PlacedPoint]

    @classmethod
    def of(cls, model: int, counts: Mapping[str, int] | None = None, *, repeats: int = 0) -> ModelLayout:
        """Lay out a model.

        Parameters
        ----------
        model
            Number of a model that `definition` knows.
        counts
            Value of every point that says how often a group repeats (`ModelDefinition.count_names`).
        repeats
            How often groups repeat that have no such point (modules of model 160).

        Raises
        ------
        DeviceError
            Local: unknown model, a missing or impossible count, or more registers than a model can have.
        """
        found = definition(model)
        walk = _Walk(found, counts or {}, repeats)
        walk.place(found.group, "", {})
        return cls(found, walk.offset - HEADER_WORDS, MappingProxyType(walk.points))

    @classmethod
    def for_length(cls, model: int, length: int, counts: Mapping[str, int] | None = None) -> ModelLayout:
        """Lay out a model whose register L says ``length``: finds ``repeats`` from it.

        The layout's own ``length`` may differ where the device's is wrong; the caller compares. Errors as `of`.
        """
        shortest = cls.of(model, counts)
        one_more = cls.of(model, counts, repeats=1).length - shortest.length
        if one_more == 0 or length <= shortest.length:
            return shortest
        return cls.of(model, counts, repeats=(length - shortest.length) // one_more)

    def __getitem__(self, path: str) -> PlacedPoint:
        return self.points[path]

    def __contains__(self, path: object) -> bool:
        return path in self.points

    def __iter__(self) -> Iterator[PlacedPoint]:
        return iter(self.points.values())

    @property
    def words(self) -> int:
        """Registers of the instance, ID and L included."""
        return self.length + HEADER_WORDS

    def start_words(self) -> list[int]:
        """Contents of ID and L."""
        return [self.definition.id, self.length]


class _Walk:
    """Goes through groups in register order and places their points."""

    def __init__(self, model: ModelDefinition, counts: Mapping[str, int], repeats: int) -> None:
        self.model = model
        self.counts = counts
        self.repeats = repeats
        self.offset = 0
        self.points: dict[str, PlacedPoint] = {}

    def place(self, group: GroupDefinition, prefix: str, outer: Mapping[str, int]) -> None:
        """Place one repetition of a group; ``outer`` are the offsets of the factors in the groups around it."""
        factors = dict(outer)
        at = self.offset
        for point in group.points:
            if point.type == "sunssf":
                factors[point.name] = at
            at += point.size
        for point in group.points:
            named = isinstance(point.scale, str)
            if named and point.scale not in factors:
                raise DeviceError(f"model {self.model.id}: {point.name} has no factor {point.scale}", local=True)
            path = prefix + point.name
            self.points[path] = PlacedPoint(
                path=path,
                offset=self.offset,
                definition=point,
                scale=point.scale if isinstance(point.scale, int) else 0,
                scale_offset=factors[point.scale] if isinstance(point.scale, str) else None,
            )
            self.offset += point.size
        for inner in group.groups:
            for index in range(self._times(inner)):
                # Two groups of one name never follow each other, so a single one needs no number.
                single = inner.count == 1
                self.place(inner, f"{prefix}{inner.name}." if single else f"{prefix}{inner.name}[{index}].", factors)
                if self.offset > LONGEST:
                    raise DeviceError(f"model {self.model.id} would be longer than {LONGEST} registers", local=True)

    def _times(self, group: GroupDefinition) -> int:
        if isinstance(group.count, int):
            return group.count or self.repeats
        times = self.counts.get(group.count)
        if times is None or not 0 <= times <= LONGEST:
            raise DeviceError(f"model {self.model.id}: {group.count} cannot be {times}", local=True)
        return times


def _counts(group: GroupDefinition) -> Iterator[int | str]:
    for inner in group.groups:
        yield inner.count
        yield from _counts(inner)


def _point(facts: list[Any]) -> PointDefinition:
    name, kind, size, flags, scale, units, symbols = (facts + ["", None, "", {}][len(facts) - 3 :])[:7]
    return PointDefinition(
        name, kind, size, scale, units, "w" in flags, "m" in flags, "s" in flags, MappingProxyType(dict(symbols))
    )


def _group(facts: Mapping[str, Any]) -> GroupDefinition:
    return GroupDefinition(
        name=facts["name"],
        count=facts.get("count", 1),
        sync=facts.get("sync", False),
        points=tuple(_point(point) for point in facts["points"]),
        groups=tuple(_group(inner) for inner in facts.get("groups", ())),
    )


@functools.cache
def _published() -> Mapping[str, Any]:
    text = resources.files("hardware.sunspec").joinpath("definitions.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def known_models() -> frozenset[int]:
    """Numbers of the models that `definition` knows."""
    return frozenset(int(number) for number in _published()["models"])


@functools.cache
def definition(model: int) -> ModelDefinition:
    """A published model. Read from the packaged file once.

    Raises
    ------
    DeviceError
        Local, if the model is not among `known_models`.
    """
    facts = _published()["models"].get(str(model))
    if facts is None:
        raise DeviceError(f"SunSpec model {model} is not known here", local=True)
    return ModelDefinition(model, facts["label"], _group(facts["group"]))
