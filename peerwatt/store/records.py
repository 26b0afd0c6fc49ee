"""What the registry hands out: frozen rows, and the error it raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from core.errors import PeerwattError

Reason = Literal["unknown", "exists", "stale", "not_open", "bad_value", "too_many"]
OfferState = Literal["open", "accepted", "declined", "withdrawn"]


class RegistryError(PeerwattError):
    """The registry cannot do it. ``reason`` is for programs: unknown, exists, stale, not_open, bad_value, too_many."""

    def __init__(self, reason: Reason, message: str, *, remedy: str | None = None) -> None:
        self.reason: Reason = reason
        super().__init__(message, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who may ask: a person's app, a meter, an operator's desk.

    ``participants`` are those it acts for; ``everybody``: for all of them, present and future. ``version`` counts
    changes after which what was issued before must not hold any more. ``has_secret``: it can ask for OAuth tokens.
    """

    id: str
    role: str
    display_name: str
    participants: frozenset[str]
    everybody: bool
    created: datetime
    revoked: datetime | None = None
    version: int = 1
    has_secret: bool = False


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret. ``prefix`` is its beginning, for people to tell it by."""

    id: str
    client: str
    digest: bytes
    prefix: str
    label: str
    created: datetime
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A client that is not revoked, and those of its keys that are not revoked."""

    client: Client
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: ``text`` is told once and kept nowhere."""

    text: str
    key: ApiKey


@dataclass(frozen=True, slots=True)
class Offer:
    """A standing contract that one participant offers another; ``contract`` is its number once both agreed."""

    id: str
    by: str
    to: str
    terms: Mapping[str, Any]
    state: OfferState
    created: datetime
    expires: datetime
    contract: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """One look at, or change of, a participant's personal data."""

    id: int
    client: str
    role: str
    participant: str
    action: str
    status: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Setting:
    """A value with the number of its version, from 1."""

    name: str
    value: Any
    version: int
    changed: datetime
    changed_by: str
