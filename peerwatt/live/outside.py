"""Which buildings are bid for by clients of their own: named at the start, or bound to a client in the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from peerwatt.api.roles import ROLES

if TYPE_CHECKING:
    from peerwatt.store.records import Identity
    from peerwatt.store.registry import Registry

BIDS = "orders:write"


class OutsideClients:
    """Buildings with a client that may bid, holds a key and acts for them by name; follows the registry.

    Whoever acts for everybody (an operator) binds no building. A building whose client only ever used the broker has
    orders in the book, and the model stands back from that slot; see `peerwatt.live.desk.Desk`.

    Parameters
    ----------
    named
        Ids of buildings that are left to outside clients in any case.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._named = frozenset(named)
        self._by_client: dict[str, frozenset[str]] = {}
        self._all = self._named

    async def follow(self, registry: Registry) -> None:
        """Take over what the registry says, and every change from now on."""
        registry.clients.subscribe(lambda client, identity, _: self.changed(client, identity))
        identities, _ = await registry.clients.identities()
        for identity in identities:
            self.changed(identity.client.id, identity)

    def changed(self, client: str, identity: Identity | None) -> None:
        """A client was made, changed, or is gone."""
        self._by_client.pop(client, None)
        if identity is not None and _can_ask(identity) and BIDS in ROLES[identity.client.role].scopes:
            self._by_client[client] = frozenset(identity.client.participants)
        self._all = self._named.union(*self._by_client.values())

    def __call__(self) -> frozenset[str]:
        """Ids of participants that the model leaves alone."""
        return self._all


def _can_ask(identity: Identity) -> bool:
    return bool(identity.keys) or identity.client.has_secret
