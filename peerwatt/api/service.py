"""What the HTTP application is made of: everything it needs, handed to it whole, so that tests can hand it anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from peerwatt import wire
from peerwatt.api.set_points import SetPoints
from peerwatt.api.views import MarketFacts, market_facts
from peerwatt.wire.times import SlotNames, time_us

if TYPE_CHECKING:
    from controllers.guardian.client import LeaseAnswer
    from core.quality import Reading
    from market.engine.commands import Command, Done, Refused
    from market.engine.config import EngineConfig
    from market.engine.state import SettledVersion, Settlement, State
    from market.journal.protocol import Head, Journal
    from market.journal.vault import Vault
    from market.settlement import PeriodTerms, SettledRows
    from peerwatt.api.metrics import Metrics
    from peerwatt.api.paging import Pager
    from peerwatt.api.principal import Guard
    from peerwatt.api.stream_hub import StreamHub
    from peerwatt.api.tokens import TokenEndpoint
    from peerwatt.store.registry import Registry

T = TypeVar("T")


class EnginePort(Protocol):
    """What of `market.engine.engine.Engine` the application uses."""

    @property
    def config(self) -> EngineConfig:
        """Markets and slot grid."""

    @property
    def head(self) -> Head:
        """The last durable record."""

    async def submit(self, command: Command) -> Done | Refused:
        """Do it; durable when this returns."""

    async def read(self, query: Callable[[State], T]) -> T:
        """Look at durable state."""

    @property
    def before_erase(self) -> list[Callable[[int, str], Awaitable[None]]]:
        """Called with a member's number and id before the engine destroys its key."""

    def member_of(self, participant_id: str) -> int | None:
        """A participant's number."""

    def participant_of(self, member: int) -> str | None:
        """A member's participant id."""


@dataclass(frozen=True, slots=True)
class Past:
    """A version of a member's slot from history; ``version`` says what holds for the slot, ``own`` is the member's."""

    slot: int
    version: SettledVersion
    own: Settlement


@dataclass(frozen=True, slots=True)
class SlotVersions:
    """Versions of slots over all members, one row each: int64 ``(n,)``.

    ``accounts_u`` ``(n, 4)`` is what retailer, operator, network and state receive in all [micro-currency].
    """

    slot: NDArray[np.int64]
    version: NDArray[np.int64]
    seq: NDArray[np.int64]
    at_us: NDArray[np.int64]
    reason: list[str]
    accounts_u: NDArray[np.int64]


class DevicesPort(Protocol):
    """What of a guardian the application uses; `peerwatt.devices.guardian_link.GuardianLink` is one.

    Every method raises `core.DeviceError`: remote if no guardian answers, its `GuardianError` if it says no.
    """

    async def devices(self) -> list[dict[str, Any]]:
        """Every device (docs/guardian.md, ``devices``)."""

    async def measure(self, device: str) -> Mapping[str, Reading]:
        """Its readings by name, dated on the event loop's clock."""

    async def metrics(self) -> list[dict[str, Any]]:
        """The guardian's own figures."""

    async def hold(
        self, device: str, control: str, value: float, *, level: str, owner: str, ttl_s: float, key: str = ""
    ) -> LeaseAnswer:
        """Ask for a lease; a refusal is an answer."""

    async def release(self, device: str, control: str, owner: str) -> bool:
        """Give a lease back; False if there is none."""

    async def mode(self, device: str, mode: str, who: str) -> Mapping[str, str]:
        """Bring a device into a mode; the modes by device."""

    async def stop(self, reason: str, who: str) -> dict[str, Any]:
        """Stop everything."""


class HistoryPort(Protocol):
    """Settled slots that the engine no longer keeps."""

    async def settled(self, member: int, first: int, end: int, limit: int | None = None) -> list[Past]:
        """All versions of a member's slots ``first`` to ``end`` (not included), by slot and version.

        With ``limit``, those of at least so many versions, and of whole slots only.
        """

    async def rows(self, members: Sequence[int], first: int, end: int) -> SettledRows:
        """All versions of these members' slots, for bills; complete as far as the engine has let slots go."""

    async def versions(self, first: int, end: int) -> SlotVersions:
        """All versions of slots over all members, by slot and version; as complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of the server.

    Parameters
    ----------
    engine, journal, vault
        The market, its records, and the keys of its persons.
    registry
        Clients, keys, offers, access log, settings.
    guard, tokens, pager
        Who may ask and how often; access tokens; cursors.
    hub, metrics
        The live stream, and the figures for Prometheus.
    clock
        Engine time [microseconds since 1970, UTC].
    speed
        Engine seconds per second of the wall clock.
    wall, elapsed_s
        The wall clock likewise, and a monotonic one [s].
    currency
        ISO 4217 code.
    network
        Topology with ratings and limits; its buses and branches stand in the order of the arrays that the journal's
        network states hold. None where the scenario has no network.
    history
        Settled slots that the engine no longer keeps.
    billing
        Calendar and tariffs of months' bills; None where there are none.
    devices
        The site's guardian; None where the service was started without one.
    stream_valid_s
        Streams end after so many seconds; None: when the client likes.
    trouble
        Empty when the service takes requests; otherwise why not: ``starting``, ``recovering``, ``broken``.
    """

    engine: EnginePort
    journal: Journal
    vault: Vault
    registry: Registry
    guard: Guard
    tokens: TokenEndpoint
    pager: Pager
    hub: StreamHub
    metrics: Metrics
    clock: Callable[[], int]
    wall: Callable[[], int]
    elapsed_s: Callable[[], float]
    speed: float = 1.0
    currency: str = "EUR"
    network: wire.NetworkOut | None = None
    history: HistoryPort | None = None
    billing: PeriodTerms | None = None
    devices: DevicesPort | None = None
    trouble: Callable[[], str] = lambda: ""
    stream_valid_s: float | None = None
    names: SlotNames = field(init=False)
    markets: dict[str, MarketFacts] = field(init=False)
    settled_results: dict[int, str] = field(init=False, default_factory=dict)
    set_points: SetPoints = field(init=False, default_factory=SetPoints)

    def __post_init__(self) -> None:
        config = self.engine.config
        object.__setattr__(self, "names", SlotNames(config.start_us, config.slot_s))
        object.__setattr__(self, "markets", market_facts(config))

    @staticmethod
    def time_us(text: str) -> int:
        """Microseconds since 1970 of a time on the wire; ValueError if it is none."""
        return time_us(text)

    async def forget(self, member: int, participant: str) -> None:
        """A person is about to be erased: its keys, offers and access log go, and its news in the stream."""
        self.hub.forget(member)
        await self.registry.forget_participant(participant)

    async def shut_out(self, participant: str) -> None:
        """End every client that acts for this participant alone, and its streams."""
        for client in await self.registry.clients.find(participant=participant):
            if client.participants == frozenset({participant}):
                await self.registry.clients.revoke(client.id)
                self.hub.end(client.id)

    def now_slot(self) -> int:
        """The slot in which engine time lies; it may lie outside the grid."""
        return self.engine.config.slot_of(self.clock())
