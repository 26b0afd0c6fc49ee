"""What a live market tells the outside, once it is durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Publication:
    """One piece of news.

    Parameters
    ----------
    seq
        The journal's record that it follows from.
    at_us
        Engine time [microseconds since 1970, UTC].
    topic
        ``slot``, ``market``, ``price``, ``trade``, ``book``, ``network``, ``settled`` are public; ``order``,
        ``result``, ``bill``, ``envelope``, ``terms``, ``dispute``, ``member`` are one member's.
    market, slot
        Which it is about; empty and -1 where it is about none.
    member
        Whose it is; -1 = everybody's.
    data
        Fit for JSON; slots are indices, times microseconds, orders numbers.
    """

    seq: int
    at_us: int
    topic: str
    market: str
    slot: int
    member: int
    data: dict[str, Any]
