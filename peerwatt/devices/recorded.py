"""A plant that writes down what it tells, and one that tells it again: measurements of one context in another.

Everything after the measurements is the same code in every context, so the same measurements give the same books,
prices and ledgers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core import RunError
from peerwatt.messages import Flows, Forecast, Observation, SetPoints, Window
from peerwatt.plants import Arrays, Plant


@dataclass(slots=True)
class Recording:
    """What a plant told, by the window's first slot: state before it, forecast, and what flowed."""

    observed: dict[int, Observation] = field(default_factory=dict)
    expected: dict[int, Forecast] = field(default_factory=dict)
    flowed: dict[int, Flows] = field(default_factory=dict)


class RecordingPlant:
    """A plant whose measurements are written down as they are made."""

    def __init__(self, plant: Plant) -> None:
        self.recording = Recording()
        self._plant = plant
        self._window = Window(0, 0)

    def forecast(self, window: Window) -> Forecast:
        """As the plant says; it begins a window."""
        self._window = window
        self.recording.expected[window.first] = found = self._plant.forecast(window)
        return found

    def observe(self) -> Observation:
        """As the plant says."""
        self.recording.observed[self._window.first] = found = self._plant.observe()
        return found

    def apply(self, set_points: SetPoints, window: Window) -> None:
        """Handed on."""
        self._plant.apply(set_points, window)

    def measure(self, window: Window) -> Flows:
        """As the plant says."""
        self.recording.flowed[window.first] = found = self._plant.measure(window)
        return found

    def checkpoint(self) -> Arrays:
        """Of the plant."""
        return self._plant.checkpoint()

    def restore(self, arrays: Arrays) -> None:
        """Of the plant."""
        self._plant.restore(arrays)


class RecordedPlant:
    """A plant that tells what another one told; set-points do nothing to it. Windows are those of the recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._window = Window(0, 0)

    def forecast(self, window: Window) -> Forecast:
        """What was expected; RunError for a window that is not recorded."""
        if window.first not in self._recording.flowed:
            raise RunError(f"nothing is recorded of slot {window.first}", remedy="replay in the recording's windows")
        self._window = window
        return self._recording.expected[window.first]

    def observe(self) -> Observation:
        """What was observed."""
        return self._recording.observed[self._window.first]

    def apply(self, set_points: SetPoints, window: Window) -> None:
        """It has happened already."""

    def measure(self, window: Window) -> Flows:
        """What flowed."""
        return self._recording.flowed[window.first]

    def checkpoint(self) -> Arrays:
        """Nothing is kept."""
        return {}

    def restore(self, arrays: Arrays) -> None:
        """Nothing is kept."""
