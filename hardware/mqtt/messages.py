"""What goes over a link, in words of MQTT 5 but without its library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish.

    Parameters
    ----------
    topic, payload
        Where and what. An empty payload with ``retain`` removes what is kept under the topic.
    retain
        Whether it is *state*, which the broker keeps for those who subscribe later and of which only the newest counts,
        or an *event*.
    each
        With ``retain``: every message counts as an event does, and the newest is kept beside.
    qos
        0 or 1.
    expiry_s
        Real seconds after which it is worthless, to us and to the broker; None = never.
    correlation
        MQTT 5 correlation data, for answers.
    """

    topic: str
    payload: bytes
    retain: bool = False
    each: bool = False
    qos: int = 1
    expiry_s: float | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that came in.

    Parameters
    ----------
    retain
        Whether its sender asked the broker to keep it, or the broker had kept it.
    response_topic, correlation
        Where its sender wants the answer, and what to put into it (MQTT 5); None where it does not say.
    """

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 1
    response_topic: str | None = None
    correlation: bytes | None = None


Handler = Callable[[Incoming], Awaitable[None]]
"""Deals with one message. The broker is told that we have it when this returns, and not before."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic filter, and who deals with what comes in under it.

    Parameters
    ----------
    kept
        Also what the broker has kept from before.
    own
        Also what we publish ourselves.
    """

    filter: str
    handler: Handler
    kept: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How a link is doing. All counts are since it was made.

    Parameters
    ----------
    connected, for_s
        Whether it is connected, and for how long it has been or has not been [s].
    connects, failures
        Connections made, and attempts or connections that failed.
    last_error
        The newest failure, in words; empty if there was none.
    queued
        Messages waiting to go out.
    sent, received
        Messages the broker took (acknowledged, at QoS 1), and messages that came in.
    dropped
        Outgoing messages there was no room for. None of them is a newest state, unless there are too many topics.
    expired, refused
        Outgoing messages that became worthless while waiting, and that the broker did not allow.
    dropped_incoming
        QoS 0 messages there was no room for.
    handler_errors
        Messages whose handler raised.
    """

    connected: bool
    for_s: float
    connects: int
    failures: int
    last_error: str
    queued: int
    sent: int
    received: int
    dropped: int
    expired: int
    refused: int
    dropped_incoming: int
    handler_errors: int

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(self.connects - 1, 0)


def topic_matches(filter_: str, topic: str) -> bool:
    """Whether a topic falls under a filter with ``+`` and ``#``. Filters that begin so skip topics with ``$``."""
    wanted, got = filter_.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(got) or level not in ("+", got[place]):
            return False
    return len(wanted) == len(got)
