"""Who may tell a device what, and for how long: leases on one ladder.

Limits (`hardware.driver.Control.cap`) intersect: every live lease counts, the lowest wins. A target has one holder: the
highest live lease. Whoever asks from the holder's step or below is told who holds it. An expired lease is as if it had
never been. Pure: time is passed in, and nothing here knows a link.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from controllers.guardian.messages import Level, Refused

_KEPT_S = 600.0
"""How long the key of what was granted is remembered [s]."""


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants to hold ``control`` of ``device`` at ``value`` for ``ttl_s`` [s]; checked before it gets here."""

    device: str
    control: str
    value: float
    level: Level
    owner: str
    ttl_s: float
    key: str
    session: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A granted request. ``expires_s`` is monotonic [s]."""

    number: str
    request: Request
    expires_s: float

    def lives(self, now_s: float) -> bool:
        """Whether it still counts."""
        return now_s < self.expires_s

    def holder(self, now_s: float) -> dict[str, object]:
        """What others are told about it."""
        return {
            "owner": self.request.owner,
            "level": self.request.level.name.lower(),
            "value": self.request.value,
            "expires_in_s": round(max(self.expires_s - now_s, 0.0), 3),
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and who holds it."""

    code: Refused
    message: str
    holder: Lease | None = None


@dataclass(frozen=True, slots=True)
class _Granted:
    request: Request
    lease: Lease
    until_s: float


class Arbiter:
    """The leases of a site.

    Parameters
    ----------
    is_cap
        Whether (device, control) is a limit, so that leases intersect, or a target with one holder.
    """

    def __init__(self, is_cap: Callable[[str, str], bool]) -> None:
        self._is_cap = is_cap
        self._leases: dict[str, Lease] = {}
        self._granted: dict[tuple[str, str], _Granted] = {}
        self._numbers = itertools.count(1)

    def ask(self, request: Request, now_s: float) -> Lease | Refusal:
        """Grant or refuse. What was granted under a key of an owner is answered as before, and done once."""
        known = self._granted.get((request.owner, request.key))
        if known is not None and now_s < known.until_s:
            # A client that reconnected may ask again: the session is not part of what was asked.
            if replace(known.request, session=request.session) == request:
                return known.lease
            return Refusal(Refused.KEY_REUSED, f"the key {request.key!r} stands for another request of {request.owner}")
        answer = self._decide(request, now_s)
        self._forget(now_s)
        if isinstance(answer, Lease):
            self._granted.pop((request.owner, request.key), None)  # so that the mapping stays in order of time
            self._granted[request.owner, request.key] = _Granted(request, answer, now_s + _KEPT_S)
        return answer

    def _decide(self, request: Request, now_s: float) -> Lease | Refusal:
        mine = None
        for lease in self._of(request.device, request.control, now_s):
            if lease.request.owner == request.owner:
                mine = lease
            elif not self._is_cap(request.device, request.control) and lease.request.level >= request.level:
                held = lease.request
                return Refusal(
                    Refused.HELD,
                    f"{request.device} {request.control} is held by {held.owner} ({held.level.name.lower()}) "
                    f"for another {lease.expires_s - now_s:.1f} s",
                    lease,
                )
        if mine is not None:
            del self._leases[mine.number]
        granted = Lease(f"L{next(self._numbers)}", request, now_s + request.ttl_s)
        self._leases[granted.number] = granted
        return granted

    def release(self, number: str) -> Lease | None:
        """Give a lease back; None if there is none of that number."""
        return self._leases.pop(number, None)

    def drop(self, gone: Callable[[Lease], bool]) -> list[Lease]:
        """Take away every lease that ``gone`` says is to go, and return them."""
        dropped = [lease for lease in self._leases.values() if gone(lease)]
        for lease in dropped:
            del self._leases[lease.number]
        return dropped

    def expire(self, now_s: float) -> list[Lease]:
        """Take away what has expired, and return it. (It had stopped counting before.)"""
        return self.drop(lambda lease: not lease.lives(now_s))

    def resolve(self, device: str, control: str, now_s: float) -> Lease | None:
        """The lease whose value counts now: the lowest of the limits, or the target's highest; None for none.

        Among limits of one value the higher level is named; among targets of one level the older lease holds.
        """
        live = list(self._of(device, control, now_s))
        if not live:
            return None
        if self._is_cap(device, control):
            return min(live, key=lambda lease: (lease.request.value, -lease.request.level))
        return max(live, key=lambda lease: lease.request.level)

    def live(self, now_s: float) -> Mapping[str, Lease]:
        """Every live lease by its number."""
        return {number: lease for number, lease in self._leases.items() if lease.lives(now_s)}

    def _of(self, device: str, control: str, now_s: float) -> Iterator[Lease]:
        for lease in self._leases.values():
            if lease.request.device == device and lease.request.control == control and lease.lives(now_s):
                yield lease

    def _forget(self, now_s: float) -> None:
        while self._granted:
            oldest = next(iter(self._granted))
            if now_s < self._granted[oldest].until_s:
                return
            del self._granted[oldest]
