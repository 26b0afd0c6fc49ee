"""Who answers questions and moves cables and switches: a technician at a terminal, or a file with the answers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Action = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Question:
    """Something only a human can say. ``key`` is its name in an answers file; ``default`` may be empty."""

    key: str
    text: str
    default: str = ""


QUESTIONS: Mapping[str, Question] = {
    one.key: one
    for one in (
        Question("technician", "Your name"),
        Question("witness", "Name of the witness who watches"),
        Question("instrument", "Second instrument (name and type; `none` if there is none)"),
        Question("instrument_serial", "Serial number of the instrument"),
        Question("calibrated_on", "Day of its last calibration (YYYY-MM-DD)"),
        Question(
            "clock_offset_s",
            "Seconds by which this computer's clock is ahead of the reference (`none` if not compared)",
        ),
        Question("load_step_w", "Power of a load to switch on behind the meter [W]; empty to leave it out"),
        Question("load_step_phases", "Phases it hangs on (a, b, c or abc)", "abc"),
        Question("reboot_s", "Seconds the device needs to come back after a power cycle; empty to leave this out"),
        Question("reboot_by", "Who takes the power away: `person`, or the address of an emulated device's control"),
        Question(
            "accept_untested",
            "Whether an order outlives a loss of power is not known, and nothing is armed on that. "
            "To accept it by your name type `persistence`",
        ),
        Question("disconnect", "May it be disconnected from the grid for the emergency stop? (yes/no)", "no"),
    )
}
"""Every question that may be asked."""

ACTIONS: Mapping[str, str] = {
    "load_on": "switch the load on",
    "load_off": "switch the load off again",
    "power_cycle": "take the power away from the device's control electronics and give it back",
}
"""Everything that somebody may be asked to do; a test or a test bench may do it by itself."""


class Technician(Protocol):
    """Whom the procedure talks to."""

    async def answer(self, question: Question) -> str:
        """The answer to a question; empty if there is none."""
        ...

    async def act(self, key: str, text: str) -> bool:
        """Ask for one of `ACTIONS` and wait until it is done; False if it cannot be done."""
        ...

    def tell(self, text: str) -> None:
        """Say what is going on."""
        ...


class Answers:
    """A technician who has written everything down beforehand.

    Parameters
    ----------
    answers
        By the keys of `QUESTIONS`.
    actions
        What carries out some of `ACTIONS` by itself.
    tell
        Who is told what goes on; nobody if None.
    """

    def __init__(
        self,
        answers: Mapping[str, object],
        actions: Mapping[str, Action] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if unknown := sorted(answers.keys() - QUESTIONS.keys()):
            raise ValueError(f"{unknown[0]!r} is asked nowhere; the questions are {', '.join(QUESTIONS)}")
        self._answers = {key: "" if value is None else _text(value) for key, value in answers.items()}
        self._actions = dict(actions or {})
        self._tell = tell

    @property
    def given(self) -> Mapping[str, str]:
        """The answers, by key."""
        return self._answers

    def do(self, key: str, action: Action) -> None:
        """From now on one of `ACTIONS` is carried out by this."""
        self._actions[key] = action

    async def answer(self, question: Question) -> str:
        """See `Technician`."""
        return self._answers.get(question.key, question.default)

    async def act(self, key: str, text: str) -> bool:
        """See `Technician`."""
        if (action := self._actions.get(key)) is None:
            return False
        done = action()
        if inspect.isawaitable(done):
            await done
        return True

    def tell(self, text: str) -> None:
        """See `Technician`."""
        if self._tell is not None:
            self._tell(text)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
