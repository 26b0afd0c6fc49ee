"""Token buckets per client and kind of request, in bounded memory, and the headers that tell clients where they stand.

A bucket is one number: the moment at which it would be full again (the generic cell rate algorithm). A bucket whose
moment has passed is full, the same as one that was never there, and is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType

from peerwatt.api.problems import Refusal, refuse

MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_s`` requests per second in the long run, ``burst`` at once."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if not (self.per_s > 0 and self.burst >= 1):
            raise ValueError(f"a rate needs more than 0 per second and a burst of at least 1, not {self}")


RATES: Mapping[str, Rate] = MappingProxyType({
    "read": Rate(50, 500),
    "write": Rate(10, 100),
    "orders": Rate(200, 2_000),
    "measurements": Rate(10, 100),
    "stream": Rate(1, 20),
    "token": Rate(0.2, 10),
    "stop": Rate(2, 20),
})  # fmt: skip
"""Per client; ``token`` per address and per client. A batch costs as many as it holds in hundreds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands after a request: what is left, and when [s] the bucket is full again.

    ``retry_after_s`` is None if the request was let through.
    """

    group: str
    rate: Rate
    remaining: int
    full_in_s: float
    retry_after_s: float | None

    def headers(self) -> list[tuple[str, str]]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers), and Retry-After if refused."""
        window_s = _up(self.rate.burst / self.rate.per_s)
        told = [
            ("RateLimit-Policy", f'"{self.group}";q={self.rate.burst};w={window_s}'),
            ("RateLimit", f'"{self.group}";r={self.remaining};t={_up(self.full_in_s)}'),
        ]
        if self.retry_after_s is not None:
            told.append(("Retry-After", str(max(1, _up(self.retry_after_s)))))
        return told

    def refusal(self) -> Refusal:
        """The answer to a request that was one too many."""
        return refuse("too_many_requests", f"of the group {self.group!r}", headers=self.headers())


class RateLimiter:
    """Buckets by (group, client).

    Parameters
    ----------
    elapsed_s
        A monotonic clock [s], e.g. ``Stopwatch().elapsed_s``.
    rates
        Rate of each group; what is missing is taken from ``RATES``.
    max_buckets
        Buckets kept at most. Beyond that the one that was used longest ago is forgotten, and is full again.
    """

    def __init__(
        self, elapsed_s: Callable[[], float], rates: Mapping[str, Rate] | None = None, *, max_buckets: int = MAX_BUCKETS
    ) -> None:
        self.rates = {**RATES, **(rates or {})}
        self._elapsed_s = elapsed_s
        self._max_buckets = max_buckets
        self._full_at_s: OrderedDict[tuple[str, str], float] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, group: str, client: str, cost: int = 1) -> Standing:
        """Take ``cost`` tokens, or none if there are not so many. One request never costs more than a full bucket."""
        rate = self.rates[group]
        now_s = self._elapsed_s()
        place = (group, client)
        full_at_s = max(self._full_at_s.get(place, now_s), now_s)
        after_s = full_at_s + min(cost, rate.burst) / rate.per_s
        spare_s = rate.burst / rate.per_s - (after_s - now_s)
        if spare_s < -1e-9:  # less than the rounding of the sums above
            left = int((rate.burst / rate.per_s - (full_at_s - now_s)) * rate.per_s + 1e-6)
            return Standing(group, rate, max(left, 0), full_at_s - now_s, -spare_s)
        self._full_at_s[place] = after_s
        self._full_at_s.move_to_end(place)
        if len(self._full_at_s) > self._max_buckets:
            self._shrink(now_s)
        return Standing(group, rate, max(int(spare_s * rate.per_s + 1e-6), 0), after_s - now_s, None)

    def _shrink(self, now_s: float) -> None:
        """Forget full buckets; if there are none, those used longest ago."""
        for place in [place for place, full_at_s in self._full_at_s.items() if full_at_s <= now_s]:
            del self._full_at_s[place]
        # A tenth at once, so that this is not done for every single request of a crowd.
        while len(self._full_at_s) > self._max_buckets * 9 // 10:
            self._full_at_s.popitem(last=False)


def place_of(address: str) -> str:
    """What stands for a network address: itself, or its /64 network, which one IPv6 host may have for itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def _up(seconds: float) -> int:
    """Whole seconds, rounded up; not for the last bit of a float."""
    return -int(-(seconds - 1e-6) // 1)
