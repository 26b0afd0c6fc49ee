"""A device to look at: who it is, what it can, what it measures. It has no way to write."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from core.errors import DeviceError
from core.quality import Reading
from hardware.driver import Control, Driver, Group, Identity, Ratings, Sample, Span
from hardware.meeting import Meet
from hardware.modbus.line import Line


class Device:
    """One unit on a line, read-only by construction. Made by `hardware.connecting.connect`, or of any driver and line.

    Parameters
    ----------
    line
        Where it is.
    unit
        Which unit there.
    driver
        What its registers mean.
    meet
        How to find that out again after a reconnect, when the device may have restarted with another firmware; None to
        keep the driver for good.
    owns_line
        Whether closing the device closes the line.
    """

    def __init__(
        self, line: Line, unit: int, driver: Driver, *, meet: Meet | None = None, owns_line: bool = False
    ) -> None:
        self._line = line
        self._unit = unit
        self._driver = driver
        self._meet = meet
        self._owns_line = owns_line
        self._generation = line.generation
        line.gap_s = max(line.gap_s, driver.gap_s)

    @property
    def name(self) -> str:
        """Its address and unit."""
        return f"{self._line.address} unit {self._unit}"

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self._driver.identity

    @property
    def ratings(self) -> Ratings:
        """What it can."""
        return self._driver.ratings

    @property
    def controls(self) -> Mapping[str, Control]:
        """What it could be told, by whoever may."""
        return self._driver.controls

    async def measure(self, groups: tuple[Group, ...] = (Group.FAST, Group.SLOW)) -> Mapping[str, Reading]:
        """Read now. What could not be read has no value and says why; nothing is ever made up.

        Parameters
        ----------
        groups
            What to read: by default everything that changes.

        Returns
        -------
        mapping
            Readings by name (`hardware.driver.READINGS`: units, and signs in the load convention).
        """
        problem = ""
        samples: dict[Span, Sample] = {}
        for _ in range(2):  # once more, should the line have been new in the middle of it
            generation = self._line.generation
            problem = await self._meet_again(generation)
            spans = dict.fromkeys(span for group in groups for span in self._driver.spans(group))
            samples = {span: await self._read(span) for span in spans}
            if not problem and generation == self._line.generation:
                return self._driver.decode(samples)
        why = problem or "the line was lost in the middle of it"
        return self._driver.decode({span: _failed(sample, why) for span, sample in samples.items()})

    async def _meet_again(self, generation: int) -> str:
        """Get to know the device again if the line is new; why that was not possible, or nothing."""
        if generation == self._generation:
            return ""
        if self._meet is not None:
            try:
                self._driver = await self._meet(self._read)
            except DeviceError as error:
                return error.message
        self._generation = generation
        return ""

    async def close(self) -> None:
        """Hang up, if the line is the device's own."""
        if self._owns_line:
            await self._line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _read(self, span: Span) -> Sample:
        return await self._line.read(self._unit, span)


def _failed(sample: Sample, why: str) -> Sample:
    problem = sample.problem or f"not trusted after a reconnect: {why}"
    return Sample(sample.span, None, sample.sent_s, sample.received_s, sample.sequence, problem)
