"""What was answered to set-points, by idempotency key: asked again, the first answer comes and nothing is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from market.engine.commands import Key

if TYPE_CHECKING:
    from controllers.guardian.client import LeaseAnswer

KEPT_S = 600.0
"""How long a key is remembered [s]: as long as the guardian does; no set-point lives longer than a minute."""

Place = tuple[str, str, str]
"""A client, a device and one of its controls."""

_FRESH_S = 0.2


@dataclass(frozen=True, slots=True)
class Answered:
    """A lease that was granted for a request; ``until_s`` it expires, ``kept_s`` until it is forgotten [s].

    ``place`` is the client with device and control.
    """

    request: bytes
    place: Place
    answer: LeaseAnswer
    until_s: float
    kept_s: float

    def left_s(self, now_s: float) -> float:
        """For how long it would still live."""
        return max(self.until_s - now_s, 0.0)


class SetPoints:
    """The answers of a service, by client and key."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Answered] = {}
        self._latest: dict[Place, Answered] = {}

    def known(self, client: str, key: Key, now_s: float) -> Answered | None:
        """What was answered to this key before."""
        found = self._kept.get((client, key.key))
        return found if found is not None and now_s < found.kept_s else None

    def is_latest(self, answered: Answered) -> bool:
        """Whether the same client has asked for nothing else of this control since."""
        return self._latest.get(answered.place) is answered

    def keep(self, place: Place, key: Key, answer: LeaseAnswer, ttl_s: float, now_s: float) -> tuple[Answered, bool]:
        """Remember what the guardian has granted; the first answer to this key, and whether it is a repeated one.

        Where part of ``ttl_s`` [s] is over already, the guardian remembers the key from a service before this one.
        """
        if (before := self.known(place[0], key, now_s)) is not None:  # asked twice at once
            return before, True
        for old in [known for known, kept in self._kept.items() if kept.kept_s <= now_s]:
            gone = self._kept.pop(old)
            if self.is_latest(gone):
                del self._latest[gone.place]
        found = Answered(key.request, place, answer, now_s + answer.expires_in_s, now_s + KEPT_S)
        self._kept[place[0], key.key] = self._latest[place] = found
        return found, answer.expires_in_s < ttl_s - _FRESH_S
