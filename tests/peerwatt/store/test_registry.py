"""What the registry keeps, on both databases, by several writers at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from peerwatt.store.first_start import first_admin_key
from peerwatt.store.records import Identity, RegistryError
from peerwatt.store.registry import Registry
from tests.peerwatt.store.places import START, HandClock, clock, place, registry

__all__ = ["clock", "place", "registry"]


async def test_a_client_and_its_keys_come_back_as_they_went_in(registry: Registry, clock: HandClock) -> None:
    made = await registry.clients.add("dawn-ltd", "aggregator", participants=("h1", "h2"), display_name="Dawn Ltd")
    key = await registry.clients.add_key("dawn-ltd", label="robot", expires=START + timedelta(days=30))
    assert made == await registry.clients.get("dawn-ltd")
    assert made.participants == {"h1", "h2"} and made.created == START and made.version == 1
    assert await registry.clients.keys("dawn-ltd") == [key.key]
    assert await registry.clients.keys(participant="h2") == [key.key]
    assert await registry.clients.keys(participant="h3") == []
    assert key.key.expires == START + timedelta(days=30)
    found, number = await registry.clients.identities()
    assert found == [Identity(made, (key.key,))]
    assert number == 2
    clock.move(hours=1)
    await registry.clients.note_used({key.key.id: clock.at})
    assert (await registry.clients.key(key.key.id)).last_used == clock.at


async def test_what_makes_no_sense_is_refused(registry: Registry, clock: HandClock) -> None:
    clients = registry.clients
    await clients.add("h1~resident", "resident", participants=("h1",))
    for reason, id_, role, participants, everybody in (
        ("exists", "h1~resident", "resident", ("h1",), False),
        ("bad_value", "Big Letters", "resident", ("h1",), False),
        ("bad_value", "x", "king", ("h1",), False),
        ("bad_value", "x", "resident", ("h1", "h2"), False),
        ("bad_value", "x", "resident", (), False),
        ("bad_value", "x", "aggregator", ("h1",), True),
        ("bad_value", "x", "operator", ("h1",), False),
        ("bad_value", "x", "aggregator", ("h1\n",), False),
    ):
        with pytest.raises(RegistryError) as raised:
            await clients.add(id_, role, participants=participants, everybody=everybody)
        assert raised.value.reason == reason, (id_, role)
    for odd in ("", "nobody", "a" * 1000, "nul\x00", "ü", "%s", "' OR 1=1"):
        for wrong in (clients.get(odd), clients.key(odd), clients.revoke_key(odd), registry.offers.get(odd)):
            with pytest.raises(RegistryError) as raised:
                await wrong
            assert raised.value.reason == "unknown"
        assert await clients.secret_hash(odd) is None
    for wrong in (clients.get("nobody"), clients.key("nothing"), clients.revoke("nobody"), clients.add_key("nobody")):
        with pytest.raises(RegistryError) as raised:
            await wrong
        assert raised.value.reason == "unknown"
    with pytest.raises(RegistryError, match="expired already"):
        await clients.add_key("h1~resident", expires=clock.at)
    await clients.revoke("h1~resident")
    with pytest.raises(RegistryError, match="revoked"):
        await clients.add_key("h1~resident")


async def test_every_change_is_told_once_it_is_durable(registry: Registry) -> None:
    heard: list[tuple[str, Identity | None, int]] = []
    end = registry.clients.subscribe(lambda *change: heard.append(change))
    client = await registry.clients.client_for("h1", "resident")
    assert client == await registry.clients.client_for("h1", "resident")
    key = await registry.clients.add_key(client.id)
    await registry.clients.revoke_key(key.key.id)
    await registry.clients.set_secret(client.id)
    await registry.clients.revoke(client.id)
    assert [(name, identity and len(identity.keys), number) for name, identity, number in heard] == [
        ("h1~resident", 0, 1),
        ("h1~resident", 1, 2),
        ("h1~resident", 0, 3),
        ("h1~resident", 0, 4),
        ("h1~resident", None, 5),
    ]
    assert heard[3][1] is not None and heard[3][1].client.version == 3 and heard[3][1].client.has_secret
    end()
    await registry.clients.client_for("h2", "resident")
    assert len(heard) == 5


async def test_two_processes_write_at_once(place: str | Path, registry: Registry, clock: HandClock) -> None:
    other = await Registry.open(place, clock)
    try:
        await asyncio.gather(
            *(
                (registry if number % 2 else other).clients.add(f"c{number}", "resident", participants=(f"h{number}",))
                for number in range(20)
            ),
            *((registry if number % 2 else other).access.note("c1", "admin", "h1", "read") for number in range(20)),
        )
        first, number = await registry.clients.identities()
        second, _ = await other.clients.identities()
        assert first == second and len(first) == 20
        assert number == 20, "no change was lost from the count"
        assert len(await other.access.of("h1")) == 20
    finally:
        await other.close()


async def test_of_two_who_change_a_setting_the_second_is_told(registry: Registry) -> None:
    settings = registry.settings
    assert await settings.get("fees") is None
    first = await settings.put("fees", {"u": 1}, seen=0, by="ada")
    assert first == await settings.get("fees")
    outcomes = await asyncio.gather(
        *(settings.put("fees", {"u": number}, seen=1, by="ada") for number in range(5)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, RegistryError)]
    assert len(won) == 1 and won[0].version == 2 and {error.reason for error in lost} == {"stale"} and len(lost) == 4
    with pytest.raises(RegistryError) as raised:
        await settings.put("fees", {}, seen=0, by="bob")
    assert raised.value.reason == "stale"
    assert await settings.get("fees") == won[0]


async def test_an_offer_is_accepted_once(registry: Registry, clock: HandClock) -> None:
    offers = registry.offers
    terms = {"volume_wh": 500, "price_u": 200_000}
    offer = await offers.add("h1", "h2", terms, START + timedelta(days=1))
    assert offer == await offers.get(offer.id) and offer.terms == terms
    assert await offers.of("h1") == await offers.of("h2") == [offer]
    assert await offers.of("h3") == []
    outcomes = await asyncio.gather(*(offers.accept(offer.id) for _ in range(4)), return_exceptions=True)
    assert [isinstance(outcome, RegistryError) for outcome in outcomes].count(False) == 1
    await offers.reopen(offer.id)
    await offers.accept(offer.id)
    linked = await offers.link(offer.id, 7)
    assert linked.state == "accepted" and linked.contract == 7
    for late in (offers.reopen, offers.decline, offers.withdraw):
        with pytest.raises(RegistryError) as raised:
            await late(offer.id)
        assert raised.value.reason == "not_open"
    old = await offers.add("h1", "h2", terms, START + timedelta(days=1))
    clock.move(days=1)
    with pytest.raises(RegistryError, match="expired"):
        await offers.accept(old.id)
    with pytest.raises(RegistryError, match="itself"):
        await offers.add("h1", "h1", terms, START + timedelta(days=9))
    with pytest.raises(RegistryError, match="4000 bytes"):
        await offers.add("h1", "h2", {"text": "x" * 4_000}, START + timedelta(days=9))


async def test_open_offers_are_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerwatt.store.offers.MAX_OPEN", 3)
    for _ in range(3):
        await registry.offers.add("h1", "h2", {}, START + timedelta(days=1))
    with pytest.raises(RegistryError) as raised:
        await registry.offers.add("h1", "h3", {}, START + timedelta(days=1))
    assert raised.value.reason == "too_many"
    await registry.offers.add("h2", "h1", {}, START + timedelta(days=1))


async def test_the_access_log_is_paged_newest_first(registry: Registry, clock: HandClock) -> None:
    for number in range(5):
        await registry.access.note("desk", "operator", "h1", f"GET statement {number}")
        await registry.access.note("desk", "operator", "h2", "GET statement")
        clock.move(minutes=1)
    newest = await registry.access.of("h1", limit=2)
    older = await registry.access.of("h1", before=newest[-1].id, limit=10)
    assert [line.action[-1] for line in (*newest, *older)] == ["4", "3", "2", "1", "0"]
    assert newest[0].at == START + timedelta(minutes=4) and newest[0].role == "operator"
    await registry.purge(START + timedelta(minutes=2))
    assert len(await registry.access.of("h1")) == 3


async def test_the_first_start_makes_one_private_key(registry: Registry, clock: HandClock, tmp_path: Path) -> None:
    first = await first_admin_key(registry, tmp_path / "data", clock)
    assert first is not None
    assert first.file == tmp_path / "data" / "admin.key"
    assert first.file.read_text().strip() == first.text
    assert first.file.stat().st_mode & 0o777 == 0o600
    assert await first_admin_key(registry, tmp_path / "data", clock) is None
    for key in await registry.clients.keys("admin"):
        await registry.clients.revoke_key(key.id)
    second = await first_admin_key(registry, tmp_path / "data", clock)
    assert second is not None and second.text != first.text
    assert second.file.read_text().strip() == second.text
    await registry.clients.revoke("admin")
    third = await first_admin_key(registry, tmp_path / "data", clock)
    assert third is not None
    assert [client.id for client in await registry.clients.find()] == ["admin", "admin-2"]
    assert not list((tmp_path / "data").glob(".*")), "nothing half-written is left"
