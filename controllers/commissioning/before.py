"""What stood in a device's registers before the first write to each, and the frames that put it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hardware.driver import Frame, Sample, Span, Step

_LAST = ("enable", "timer")  # purposes that are put back last, in this order


def span_of(step: Step) -> Span:
    """What to read for the words that a step is going to write: its check where that covers them."""
    begin, end = step.frame.address, step.frame.address + len(step.frame.words)
    check = step.check
    covered = check.function == 3 and check.address <= begin and end <= check.address + check.count
    return check if covered else Span(begin, end - begin)


@dataclass(frozen=True, slots=True)
class Kept:
    """A frame that was written, for which control and what for."""

    control: str
    purpose: str
    step: Step


class Before:
    """Remembers registers before they are written."""

    def __init__(self) -> None:
        self._words: dict[int, int | None] = {}  # None: it could not be read
        self._kept: dict[tuple[int, int], Kept] = {}
        self._timers: dict[str, Step] = {}

    def is_new(self, step: Step) -> bool:
        """Whether a step writes a register that was never read before a write."""
        return any(address not in self._words for address in _addresses(step.frame))

    def learn(self, step: Step, sample: Sample) -> None:
        """Keep what was read, of the registers that nothing is known of yet."""
        for address in _addresses(step.frame):
            word = None if sample.words is None else sample.words[address - sample.span.address]
            self._words.setdefault(address, word)

    def wrote(self, step: Step, control: str) -> None:
        """A step is going to be written: keep its frame, and what it is for."""
        key = (step.frame.address, len(step.frame.words))
        known = self._kept.get(key)
        purpose = "enable" if step.purpose == "release" else step.purpose
        if known is None:
            self._kept[key] = Kept(control, purpose, step)
        elif known.step.purpose == "release" != step.purpose:  # an order says better what a register is for
            self._kept[key] = replace(known, purpose=purpose, step=step)
        if step.purpose == "timer" and any(step.frame.words):
            self._timers[control] = step

    @property
    def unknown(self) -> tuple[int, ...]:
        """Registers that were written and could not be read before."""
        return tuple(address for address, word in self._words.items() if word is None)

    def spans(self) -> tuple[Span, ...]:
        """What to read to see what differs now."""
        return tuple(dict.fromkeys(span_of(kept.step) for kept in self._kept.values()))

    def steps(self, now: Mapping[int, int]) -> Iterator[tuple[str, Step]]:
        """The writes that put back what differs: (control, step), in a safe order.

        Per control our own timer first, so that nothing is in force without one while this goes on; then values and
        fallbacks; then what brings it into force, if it was; the timer that stood there last.

        Parameters
        ----------
        now
            Words by address as they are. A register that is not in it could not be read: it is written.
        """
        for control in dict.fromkeys(kept.control for kept in self._kept.values()):
            mine = [kept for kept in self._kept.values() if kept.control == control and self._differs(kept, now)]
            timer = self._timers.get(control)
            if timer is not None and any(kept.purpose != "timer" for kept in mine):
                yield control, timer
                mine += [
                    kept
                    for kept in self._kept.values()
                    if kept.step.frame.address == timer.frame.address and kept not in mine and self._is_known(kept)
                ]
            mine.sort(key=lambda kept: _LAST.index(kept.purpose) + 1 if kept.purpose in _LAST else 0)
            for kept in mine:
                yield control, self._step(kept)

    def _is_known(self, kept: Kept) -> bool:
        return all(self._words[address] is not None for address in _addresses(kept.step.frame))

    def _differs(self, kept: Kept, now: Mapping[int, int]) -> bool:
        return self._is_known(kept) and any(
            now.get(address) != self._words[address] for address in _addresses(kept.step.frame)
        )

    def _step(self, kept: Kept) -> Step:
        old = kept.step.frame
        words = tuple(self._words[address] or 0 for address in _addresses(old))
        check = span_of(kept.step)
        wanted = dict(zip(_addresses(old), words, strict=True))
        expected = tuple(wanted.get(address) for address in range(check.address, check.address + check.count))
        return Step(kept.purpose, Frame(old.address, words, old.function), check, expected)


def _addresses(frame: Frame) -> range:
    return range(frame.address, frame.address + len(frame.words))
