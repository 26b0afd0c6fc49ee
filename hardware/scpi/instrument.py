"""A laboratory instrument over SCPI: every command is followed by its error queue, every setting is asked back."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Self

from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.profile_types import UNITS, unit_of
from hardware.scpi.description import InstrumentDescription, Output, Query
from hardware.scpi.session import Opener, Session, visa_opener

_NAN = 9.91e37
_INFINITY = 9.9e37
"""SCPI-1999 writes NaN as 9.91E+37 and infinity as 9.9E+37."""

_MOST_ERRORS = 20


class ScpiInstrument:
    """Has the capabilities `hardware.capabilities.Meter` and `Instrument`. One command at a time.

    Parameters
    ----------
    description
        Its commands, units and signs.
    name
        What errors call it: its address.
    opener
        Opens its VISA resource; `open` makes one.
    deadline_s
        Longest wait for one command [s].
    """

    def __init__(
        self, description: InstrumentDescription, name: str, opener: Opener, *, deadline_s: float = 2.0
    ) -> None:
        self.description = description
        self.name = name
        self.identity = ""
        self._session = Session(name, opener, deadline_s=deadline_s)
        self._started = 0
        self._sequence = 0
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls, description: InstrumentDescription, address: str, *, backend: str = "@py", deadline_s: float = 2.0
    ) -> Self:
        """Connect by PyVISA, clear the error queue and make sure that it is this kind of instrument.

        Raises
        ------
        DeviceError
            If it does not answer, or is another kind; local, if PyVISA is not installed.
        """
        opener = visa_opener(address, backend=backend, timeout_s=0.8 * deadline_s, terminator=description.terminator)
        instrument = cls(description, address, opener, deadline_s=deadline_s)
        try:
            await instrument.identify()
        except DeviceError:
            await instrument.close()
            raise
        return instrument

    async def close(self) -> None:
        """Hang up. Outputs stay as they are: set ``on`` to 0 first."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def identify(self) -> str:
        """Its ``*IDN?``.

        Raises
        ------
        DeviceError
            If it does not answer, or is not the instrument that the description is of.
        """
        async with self._turn:
            await self._start()
            return self.identity

    async def measure(self) -> Mapping[str, Reading]:
        """Every reading, in the load convention; one that fails has no value and says why."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            out: dict[str, Reading] = {}
            lost = ""
            for name, query in self.description.readings.items():
                self._sequence += 1
                sent_s = loop.time()
                if lost:  # the rest would only wait for the same silence
                    out[name] = self._failed(sent_s, lost)
                    continue
                try:
                    await self._start()
                    text = await self._ask(query.query)
                except DeviceError as error:
                    lost = "" if self._session.is_open else error.message
                    out[name] = self._failed(loop.time(), error.message)
                    continue
                out[name] = self._reading(name, query, text, sent_s, loop.time())
            return out

    async def set_output(self, values: Mapping[str, float]) -> None:
        """Set outputs by name, each checked, followed by the error queue and asked back.

        Switching off comes before everything else, switching on after it.

        Raises
        ------
        DeviceError
            Local, if a name is unknown or a value is no number or out of range: nothing was sent. Remote, if the
            instrument refuses one or shows another value; what came before it stands.
        """
        for name, value in values.items():
            self._check(name, value)
        first = [name for name in values if name == "on" and values[name] == 0]
        last = [name for name in values if name == "on" and values[name] != 0]
        middle = [name for name in values if name != "on"]
        async with self._turn:
            await self._start()
            for name in (*first, *middle, *last):
                await self._set(name, self.description.outputs[name], float(values[name]))

    def _check(self, name: str, value: float) -> None:
        output = self.description.outputs.get(name)
        if output is None:
            known = ", ".join(self.description.outputs) or "none: it only measures"
            raise DeviceError(
                f"{self.name}: there is no output {name!r}; nothing was sent",
                local=True,
                remedy=f"its outputs: {known}",
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DeviceError(f"{self.name}: {name} {value!r} is no number; nothing was sent", local=True)
        if not output.low <= value <= output.high or (name == "on" and value not in (0, 1)):
            raise DeviceError(
                f"{self.name}: {name} {value:g} is outside {output.low:g} .. {output.high:g}; nothing was sent",
                local=True,
            )

    async def _set(self, name: str, output: Output, value: float) -> None:
        raw = value / (_factor(name, output) * output.sign * output.scale)
        await self._tell(output.set.format(value=raw))
        text = await self._ask(output.query)
        found = _number(text, output)
        shown = None if found is None else found * _factor(name, output) * output.sign * output.scale
        if shown is None or not math.isfinite(shown) or abs(shown - value) > output.tolerance:
            raise DeviceError(
                f"{self.name}: {name} was set to {value:g} and reads {text!r}",
                local=False,
                remedy="take it out of service: it ignores or changes what it is told",
            )

    async def _start(self) -> None:
        """After each connecting: clear the errors, and see that it is the instrument it was."""
        await self._session.open()
        if self._started == self._session.generation:
            return
        for command in self.description.start:
            await self._session.write(command)
        told = await self._session.query("*IDN?")
        if not re.search(self.description.identity, told) or (self.identity and told != self.identity):
            wanted = self.identity or self.description.identity
            raise DeviceError(
                f"{self.name}: calls itself {told!r}, not {wanted!r}", local=False, remedy="check the address"
            )
        self.identity = told
        self._started = self._session.generation

    async def _tell(self, command: str) -> None:
        await self._session.write(command)
        await self._errors(command)

    async def _ask(self, query: str) -> str:
        text = await self._session.query(query)
        await self._errors(query)
        return text

    async def _errors(self, command: str) -> None:
        """Empty the error queue; anything in it is about the command just sent."""
        if not self.description.error_query:
            return
        found: list[str] = []
        for _ in range(_MOST_ERRORS):
            text = await self._session.query(self.description.error_query)
            if re.search(self.description.no_error, text):
                break
            found.append(text)
        if found:
            raise DeviceError(f"{self.name}: {command}: {'; '.join(found)}", local=False)

    def _reading(self, name: str, query: Query, text: str, sent_s: float, received_s: float) -> Reading:
        number = _number(text, query)
        if number is None:
            return Reading(None, Quality.COMM_FAIL, sent_s, received_s, self._sequence, f"{text!r} is no number")
        if number != number or number == _NAN:
            return Reading(None, Quality.NOT_IMPLEMENTED, sent_s, received_s, self._sequence, "it measures nothing")
        if abs(number) >= _INFINITY:
            return Reading(None, Quality.COMM_FAIL, sent_s, received_s, self._sequence, "over range")
        value = number * query.scale * query.sign * _factor(name, query)
        return Reading(value, Quality.GOOD, sent_s, received_s, self._sequence)

    def _failed(self, at_s: float, why: str) -> Reading:
        return Reading(None, Quality.COMM_FAIL, at_s, at_s, self._sequence, why)


def _factor(name: str, query: Query) -> float:
    """Standard units in one of the instrument's."""
    if name.startswith("x_") or (not isinstance(query, Output) and unit_of(name) is None):
        return 1.0
    return UNITS[query.unit][1]


def _number(text: str, query: Query) -> float | None:
    """The number in an answer; None if there is none. ON and OFF are 1 and 0."""
    parts = text.split(",")
    if query.field >= len(parts):
        return None
    word = parts[query.field].strip()
    if word.upper() in ("ON", "OFF"):
        return 1.0 if word.upper() == "ON" else 0.0
    try:
        return float(word)
    except ValueError:
        return None
