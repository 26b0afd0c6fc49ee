"""The supervisor's commands: numbered, said again a bounded number of times, and believed only when their effect shows.

What is wanted is said by state, not by event: `Ledger.want` issues a command unless the device is there already, on its
way, or has failed. So a command is never repeated while it may still take effect, and nothing chatters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controllers.microgrid.image import Command, Do, Image, Switch
from controllers.microgrid.settings import Settings

SWITCH = "switch"
_SET_POINTS = frozenset({Do.POWER, Do.REFERENCE, Do.VOLTAGE, Do.DROOP})
_OPPOSITE = {
    Do.OPEN: Do.CLOSE,
    Do.CLOSE: Do.OPEN,
    Do.FORM: Do.FOLLOW,
    Do.FOLLOW: Do.FORM,
    Do.START: Do.HALT,
    Do.HALT: Do.START,
    Do.SHED: Do.RESTORE,
    Do.RESTORE: Do.SHED,
}
_NEVER_TWICE = frozenset({Do.CLOSE, Do.RESTORE})  # late is worse than not at all: their caller judges anew


@dataclass(slots=True)
class _Pending:
    command: Command
    numbers: tuple[int, ...]
    since_s: float
    tries: int
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A command that failed for good: when, and whether the device refused it or nothing came of it."""

    command: Command
    at_s: float
    refused: bool


def shows(image: Image, do: Do, device: str) -> bool | None:
    """Whether the image shows what the command wants; None if it cannot be seen (set-points, missing readings)."""
    if do in (Do.OPEN, Do.CLOSE):
        if image.switch is Switch.UNKNOWN:
            return None
        return image.switch is (Switch.OPEN if do is Do.OPEN else Switch.CLOSED)
    if do in (Do.SHED, Do.RESTORE):
        on = next((load.on for load in image.loads if load.id == device), None)
        return None if on is None else on is (do is Do.RESTORE)
    source = next((one for one in image.sources if one.id == device), None)
    if source is None or do in _SET_POINTS:
        return None
    if do in (Do.FORM, Do.FOLLOW):
        return None if source.forming is None else source.forming is (do is Do.FORM)
    return None if source.running is None else source.running is (do is Do.START)


class Ledger:
    """Commands of one supervisor. ``number`` is the last one given."""

    def __init__(self, settings: Settings, number: int = 0) -> None:
        self._settings = settings
        self.number = number
        self.issued: list[Command] = []
        self.failures: dict[tuple[str, Do], Failure] = {}
        self.fresh_failures: list[Failure] = []
        self.acknowledged: set[tuple[str, Do]] = set()
        self._pending: dict[tuple[str, Do], _Pending] = {}
        self._set: dict[tuple[str, Do], float] = {}

    def hear(self, image: Image) -> None:
        """Take in acknowledgements, refusals and effects; give up what was said often enough. Once a cycle, first.

        What is overdue is said again only when it is wanted again: what was right half a second ago may be wrong now.
        """
        self.issued = []
        self.fresh_failures = []
        now = image.now_s
        for key, old in list(self.failures.items()):
            wait_s = self._settings.ask_again_s if key[1] in _SET_POINTS else self._settings.forgive_s
            if now - old.at_s >= wait_s or shows(image, key[1], key[0]):
                del self.failures[key]
        for key, pending in list(self._pending.items()):
            device, do = key
            acked = not image.acknowledged.isdisjoint(pending.numbers)
            if acked:
                self.acknowledged.add(key)
            if shows(image, do, device) or (acked and do in _SET_POINTS):
                del self._pending[key]
            elif not image.refused.isdisjoint(pending.numbers):
                self._fail(key, now, refused=True)
            elif now - pending.since_s >= self._patience(do) - 1e-9:
                if pending.tries > self._most(do):
                    self._fail(key, now, refused=False)
                elif pending.overdue and do not in _SET_POINTS:
                    del self._pending[key]  # nobody wanted it any more
                else:
                    pending.overdue = True

    def _most(self, do: Do) -> int:
        return 0 if do in _NEVER_TWICE else 1 if do is Do.FORM else self._settings.retries

    def _fail(self, key: tuple[str, Do], now: float, *, refused: bool) -> None:
        failure = Failure(self._pending.pop(key).command, now, refused)
        self._set.pop(key, None)
        if key[1] is Do.FORM:
            self._set.pop((key[0], Do.REFERENCE), None)
        self.failures[key] = failure
        self.fresh_failures.append(failure)

    def _patience(self, do: Do) -> float:
        if do in (Do.OPEN, Do.CLOSE):
            return self._settings.switch_s
        if do in (Do.SHED, Do.RESTORE):
            return self._settings.load_s
        if do in (Do.FORM, Do.FOLLOW):
            return self._settings.form_s
        return self._settings.start_s if do is Do.START else self._settings.ack_s

    def _issue(self, do: Do, device: str, value: float | None, why: str) -> Command:
        self.number += 1
        command = Command(self.number, do, device, value, why)
        self.issued.append(command)
        return command

    def want(
        self,
        image: Image,
        do: Do,
        device: str,
        value: float | None = None,
        why: str = "",
        *,
        tolerance: float = 0.0,
        force: bool = False,
    ) -> Command | None:
        """Command it unless it is so, on its way, or failed; set-points only if they move by more than ``tolerance``.

        ``force`` commands even what the image shows already: to take back a command that may still be on its way.

        Raises
        ------
        ValueError
            If the value is not finite.
        """
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{do} {device}: {value} is no set-point")
        key = (device, do)
        if key in self.failures:
            return None
        old = self._pending.get(key)
        again = old if old is not None and old.overdue else None
        if do in _SET_POINTS and value is not None:
            if again is None and key in self._set and abs(value - self._set[key]) <= tolerance:
                return None
            self._set[key] = value
        elif (old is not None and again is None) or (
            shows(image, do, device) and not force and not self.pending(device, do, True)
        ):
            return None
        self.acknowledged.discard(key)
        if do in _OPPOSITE:
            self._pending.pop((device, _OPPOSITE[do]), None)
            self.failures.pop((device, _OPPOSITE[do]), None)
        if do in (Do.FORM, Do.FOLLOW, Do.HALT, Do.START):
            for other in _SET_POINTS:
                self._set.pop((device, other), None)
                self._pending.pop((device, other), None)
            if do is Do.FORM and value is not None:
                self._set[(device, Do.REFERENCE)] = value
        command = self._issue(do, device, value, why if again is None else f"{why} (again)")
        numbers, tries = ((), 0) if again is None else (again.numbers, again.tries)
        if do in _SET_POINTS:
            numbers = ()  # an answer to an older value says nothing about this one
        self._pending[key] = _Pending(command, (*numbers, command.number), image.now_s, tries + 1)
        return command

    def pending(self, device: str, do: Do, opposite: bool = False) -> bool:
        """Whether this command (or with ``opposite`` the one that undoes it) may still take effect."""
        found = self._pending.get((device, _OPPOSITE[do] if opposite and do in _OPPOSITE else do))
        return found is not None and not found.overdue

    def behind(self, device: str, do: Do) -> bool:
        """Whether a set-point of this kind was never told, or not confirmed by its device, or has failed."""
        key = (device, do)
        return key not in self._set or key in self._pending or key in self.failures

    def failed(self, device: str, do: Do) -> Failure | None:
        """The failure of this command, if it failed and is not forgiven yet."""
        return self.failures.get((device, do))

    def set_value(self, device: str, do: Do) -> float | None:
        """The newest set-point told, if it has not failed."""
        return self._set.get((device, do))

    def forgive(self, *which: Do) -> None:
        """Forget the failures of these kinds of command, of all if none is named."""
        for key in list(self.failures):
            if not which or key[1] in which:
                del self.failures[key]
