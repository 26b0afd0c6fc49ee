"""Faults of a SunSpec device's register map: where models lie, and what the map says about itself.

The device keeps one map. A `MapView` is how a client finds it: with a model more, cut short while booting, with wrong
lengths. Addresses of reads and writes are turned into places of the device's own map. (Another base address is the
server's fault to play.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware.emulator.device_port import ILLEGAL_ADDRESS, Refusal
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import END_MODEL, RegisterBlock

NEW_MODEL = 64_900
"""Number of the model that a firmware update puts in (fault map-change)."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model in a map: its number, the place of its ID register, and its registers, ID and L included."""

    model: int
    at: int
    words: int


def models_of(block: RegisterBlock) -> tuple[ModelPlace, ...]:
    """The models of a SunSpec map, in order."""
    places: list[ModelPlace] = []
    for cell in block:
        model, _, name = cell.path.partition(".")
        if name == "ID" and model.isdigit():
            places.append(ModelPlace(int(model), cell.at, block.words[cell.at + 1] + 2))
    return tuple(sorted(places, key=lambda place: place.at))


class MapView:
    """How clients find a device's registers.

    Parameters
    ----------
    block
        A SunSpec map.
    board
        The device's faults.
    partial_models
        How many models are there while the device boots slowly; None: all. Asked at every request.
    """

    def __init__(self, block: RegisterBlock, board: FaultBoard, partial_models: Callable[[], int | None]) -> None:
        self._block = block
        self._board = board
        self._partial = partial_models
        self._models = models_of(block)

    def _inserted(self, now_s: float) -> list[tuple[int, list[int]]]:
        """What stands before which place of the device's own map, in order."""
        found: list[tuple[int, list[int]]] = []
        if fault := self._board.lasting("vendor-model", now_s):
            length = fault.whole("length")
            before = fault.whole("before")
            found.append((self._place_before(before), [fault.whole("model"), length, *([0x1234] * length)]))
        if fault := self._board.lasting("map-change", now_s):
            length = fault.whole("registers") - 2
            second = self._models[1].at if len(self._models) > 1 else self._end
            found.append((second, [NEW_MODEL, length, *([0] * length)]))
        return sorted(found, key=lambda item: item[0])

    @property
    def _end(self) -> int:
        return len(self._block.words) - len(END_MODEL)

    def _place_before(self, model: int) -> int:
        return next((place.at for place in self._models if place.model == model), self._end)

    def blocks(self, now_s: float) -> tuple[tuple[int, int], ...]:
        """First address and registers of each block, as clients find them: ``SunS``, the models, the end model."""
        inserted = self._inserted(now_s)
        spans = [(0, 2), *((place.at, place.words) for place in self._models), (self._end, len(END_MODEL))]

        def shift(at: int) -> int:
            return sum(len(words) for place, words in inserted if place <= at)

        own = [(self._block.base + at + shift(at), words) for at, words in spans]
        behind = 0
        for place, words in inserted:
            own.append((self._block.base + place + behind, len(words)))
            behind += len(words)
        return tuple(sorted(own))

    def place(self, address: int, count: int, now_s: float) -> int:
        """Place in the device's own map of registers that a client wants to write. Raises Refusal (2)."""
        at = address - self._block.base
        for place, words in self._inserted(now_s):
            if at < place:
                break
            if at < place + len(words):
                raise Refusal(ILLEGAL_ADDRESS)
            at -= len(words)
        if at < 0 or at + count > self._length():
            raise Refusal(ILLEGAL_ADDRESS)
        return at

    def _length(self) -> int:
        """Registers of the device's own map that are there, without the end model."""
        partial = self._partial()
        if partial is None or partial >= len(self._models):
            return self._end
        return self._models[partial].at

    def read(self, words: Callable[[int, int], Sequence[int]], address: int, count: int, now_s: float) -> list[int]:
        """Registers as a client reads them; ``words`` gives those of the own map for a read of (place, count).

        Raises
        ------
        Refusal
            2, if one of them is not there.
        """
        first = address - self._block.base
        inserted = self._inserted(now_s)
        room = sum(len(extra) for _, extra in inserted)
        seen = list(words(max(0, first - room), count + room))[: self._length()]
        if fault := self._board.standing("wrong-model-length", now_s):
            for place in self._models:
                if place.model == fault.whole("model") and place.at + 1 < len(seen):
                    self._board.lasting("wrong-model-length", now_s)
                    seen[place.at + 1] = max(0, seen[place.at + 1] + fault.whole("by"))
        for at, extra in reversed(inserted):
            if at <= len(seen):
                seen[at:at] = extra
        seen.extend(END_MODEL[:1] if self._board.lasting("end-without-length", now_s) else END_MODEL)
        if first < 0 or first + count > len(seen):
            raise Refusal(ILLEGAL_ADDRESS)
        return seen[first : first + count]
