"""Who is bid for by clients of their own: by name, or because a client that may bid is bound to the building."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from peerwatt.live.outside import OutsideClients
from peerwatt.store.registry import Registry

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_buildings_named_on_the_command_line_are_outside() -> None:
    assert OutsideClients(["home-3"])() == {"home-3"}


def test_a_bound_client_makes_a_building_outside_as_long_as_it_holds(tmp_path: Path) -> None:
    async def story() -> list[frozenset[str]]:
        registry = await Registry.open(tmp_path / "registry.sqlite", lambda: NOON)
        try:
            clients = registry.clients
            await clients.add("one", "resident", participants=["home-1"])
            await clients.add("boss", "admin")
            await clients.add("meter", "meter", participants=["home-2"])
            for name in ("boss", "meter"):
                await clients.add_key(name)
            outside = OutsideClients(["home-9"])
            await outside.follow(registry)
            seen = [outside()]
            await clients.add_key("one")
            seen.append(outside())
            await clients.add("two", "aggregator", participants=["home-4", "home-5"])
            await clients.add_key("two")
            seen.append(outside())
            again = OutsideClients()  # as after a restart
            await again.follow(registry)
            seen.append(again())
            await clients.revoke("one")
            seen.append(outside())
            return seen
        finally:
            await registry.close()

    without_key, one, both, restarted, revoked = asyncio.run(story())
    assert without_key == {"home-9"}, "who cannot ask does not bid; meters and admins do not either"
    assert one == {"home-9", "home-1"}
    assert both == {"home-9", "home-1", "home-4", "home-5"}
    assert restarted == {"home-1", "home-4", "home-5"}
    assert revoked == {"home-9", "home-4", "home-5"}
