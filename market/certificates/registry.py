"""A registry of certificates: created once per metered Wh, transferred, cancelled once, or expired.

Law (g) of market-rules 4.5 holds after every operation: created = cancelled + held + expired. An operation that would
break it is refused and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core.errors import MarketError


@dataclass(frozen=True, slots=True, order=True)
class Batch:
    """The certificates of what one device generated in one slot: one per Wh, all alike."""

    agent: str
    device: str
    slot: int


@dataclass(frozen=True, slots=True)
class Balance:
    """Certificates of the registry [Wh]."""

    created: int
    cancelled: int
    held: int
    expired: int


@dataclass(slots=True)
class CertificateRegistry:
    """Who holds which certificates: every Wh of a batch is in one place, with a holder, cancelled or expired."""

    _held: dict[Batch, dict[str, int]] = field(default_factory=dict)
    _created: dict[Batch, int] = field(default_factory=dict)
    _cancelled: dict[Batch, int] = field(default_factory=dict)
    _expired: dict[Batch, int] = field(default_factory=dict)
    _used: dict[tuple[str, int], int] = field(default_factory=dict)

    def create(self, agent: str, device: str, slot: int, metered_wh: int) -> Batch:
        """Issue one certificate per metered Wh to the agent whose ``device`` generated it.

        Raises
        ------
        MarketError
            If the energy is negative, or the device's slot has its certificates already.
        """
        batch = Batch(agent, device, slot)
        if metered_wh < 0:
            raise MarketError(f"{batch}: a meter cannot have generated {metered_wh} Wh")
        if batch in self._created:
            raise MarketError(f"{batch} has its certificates already", remedy="one meter reading makes them once")
        self._created[batch] = metered_wh
        self._held[batch] = {agent: metered_wh} if metered_wh else {}
        return batch

    def transfer(self, batch: Batch, giver: str, taker: str, wh: int) -> None:
        """Hand certificates on.

        Raises
        ------
        MarketError
            If the giver does not hold as many.
        """
        self._take(batch, giver, wh)
        held = self._held[batch]
        held[taker] = held.get(taker, 0) + wh

    def cancel(self, batch: Batch, holder: str, slot: int, wh: int, consumed_wh: int) -> None:
        """Use certificates up for what ``holder`` consumed in ``slot``; nobody can use them again.

        Parameters
        ----------
        consumed_wh
            All that the holder consumed in the slot: claims beyond it are refused.

        Raises
        ------
        MarketError
            If the holder does not hold as many, or claims more than it consumed.
        """
        claimed = self._used.get((holder, slot), 0) + wh
        if claimed > consumed_wh:
            raise MarketError(f"{holder} claims {claimed} Wh of certificates for {consumed_wh} Wh used in slot {slot}")
        self._take(batch, holder, wh)
        self._used[holder, slot] = claimed
        self._cancelled[batch] = self._cancelled.get(batch, 0) + wh

    def expire(self, before_slot: int) -> int:
        """Void everything that is still held of slots before ``before_slot``; returns the Wh voided."""
        gone = 0
        for batch, held in self._held.items():
            if batch.slot < before_slot and held:
                wh = sum(held.values())
                self._expired[batch] = self._expired.get(batch, 0) + wh
                held.clear()
                gone += wh
        return gone

    def held(self, holder: str) -> dict[Batch, int]:
        """What somebody holds, by batch, oldest slot first."""
        found = {batch: held[holder] for batch, held in self._held.items() if held.get(holder, 0)}
        return dict(sorted(found.items(), key=lambda item: (item[0].slot, item[0])))

    def balance(self) -> Balance:
        """Sums over all batches.

        Raises
        ------
        MarketError
            If a batch's certificates are not all accounted for, exactly once.
        """
        for batch, created in self._created.items():
            found = sum(self._held[batch].values()) + self._cancelled.get(batch, 0) + self._expired.get(batch, 0)
            if found != created:
                raise MarketError(f"{batch}: {created} certificates were created, {found} are accounted for")
        return Balance(
            sum(self._created.values()),
            sum(self._cancelled.values()),
            sum(sum(held.values()) for held in self._held.values()),
            sum(self._expired.values()),
        )

    def _take(self, batch: Batch, holder: str, wh: int) -> None:
        have = self._held.get(batch, {}).get(holder, 0)
        if wh <= 0 or wh > have:
            raise MarketError(
                f"{holder} holds {have} certificates of {batch}, {wh} cannot be taken",
                remedy="a certificate is cancelled once, and only by who holds it",
            )
        held = self._held[batch]
        held[holder] = have - wh
        if not held[holder]:
            del held[holder]
