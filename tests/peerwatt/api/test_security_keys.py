"""API keys: who is let in, who is not any more, and how soon."""

from __future__ import annotations

import hashlib
import hmac
import re
import timeit
from datetime import timedelta
from pathlib import Path

import pytest

from peerwatt.api import principal
from peerwatt.api.principal import Authenticator, Principal
from peerwatt.api.problems import Refusal
from peerwatt.api.roles import ROLES, SCOPES
from peerwatt.api.security import Security
from peerwatt.api.tokens import TokenIssuer
from peerwatt.store import secrets
from peerwatt.store.registry import Registry
from tests.peerwatt.store.places import START, HandClock, clock

__all__ = ["clock"]


async def _open(folder: Path, clock: HandClock) -> Security:
    return await Security.open(folder, clock)


def _known(found: Principal | Refusal) -> Principal:
    assert isinstance(found, Principal), found
    return found


def _code(found: Principal | Refusal) -> str:
    assert isinstance(found, Refusal), found
    return found.problem.code


async def test_a_key_opens_by_either_header(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    client = await security.registry.clients.client_for("h1", "resident")
    made = await security.registry.clients.add_key(client.id)
    assert re.fullmatch(r"pw_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", made.text)
    text = made.text.encode()
    ask = security.authenticator.authenticate
    who = _known(ask(b"Bearer " + text, None))
    assert who == _known(ask(None, text)) == _known(ask(b"bEaReR " + text, None))
    assert who == Principal("h1~resident", "resident", ROLES["resident"].scopes, frozenset({"h1"}), False)
    assert who.may("orders:write") and not who.may("audit:read")
    assert who.sees("h1") and not who.sees("h2")
    assert made.text not in (tmp_path / "registry.sqlite").read_bytes().decode("latin-1")
    assert made.key.digest == hashlib.sha256(text).digest()
    await security.close()


async def test_digests_are_compared_in_constant_time(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = await _open(tmp_path, clock)
    assert security.first_key is not None
    text = security.first_key.text.encode()
    compared: list[tuple[bytes, bytes]] = []
    plain = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return plain(one, other)

    monkeypatch.setattr(principal.hmac, "compare_digest", watched)
    _known(security.authenticator.authenticate(None, text))
    forged = text[:-1] + (b"A" if text[-1:] != b"A" else b"B")
    assert _code(security.authenticator.authenticate(None, forged)) == "bad_credentials"
    kept = hashlib.sha256(text).digest()
    assert compared == [(kept, kept), (hashlib.sha256(forged).digest(), kept)]
    await security.close()


async def test_a_revoked_key_or_client_is_refused_at_once(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    clients, ask = security.registry.clients, security.authenticator.authenticate
    await clients.add("dawn", "aggregator", participants=("h1", "h2"))
    first, second = await clients.add_key("dawn"), await clients.add_key("dawn")
    assert _known(ask(None, first.text.encode())).participants == {"h1", "h2"}
    await clients.set_participants("dawn", ("h2", "h3"))
    assert _known(ask(None, first.text.encode())).participants == {"h2", "h3"}
    await clients.revoke_key(first.key.id)
    assert _code(ask(None, first.text.encode())) == "bad_credentials"
    _known(ask(None, second.text.encode()))
    await clients.revoke("dawn")
    assert _code(ask(None, second.text.encode())) == "bad_credentials"
    await security.close()


async def test_an_erased_persons_key_is_refused_at_once(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    client = await security.registry.clients.client_for("h1", "resident")
    text = (await security.registry.clients.add_key(client.id)).text.encode()
    _known(security.authenticator.authenticate(None, text))
    await security.registry.forget_participant("h1")
    assert _code(security.authenticator.authenticate(None, text)) == "bad_credentials"
    await security.authenticator.write_last_used()
    await security.close()
    assert b"h1~resident" not in (tmp_path / "registry.sqlite").read_bytes()


async def test_a_key_ends_with_its_last_moment(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    client = await security.registry.clients.client_for("h1", "resident")
    made = await security.registry.clients.add_key(client.id, expires=START + timedelta(hours=1))
    text = made.text.encode()
    assert security.authenticator.live_keys == 2
    clock.move(minutes=59, seconds=59)
    _known(security.authenticator.authenticate(None, text))
    clock.move(seconds=1)
    assert _code(security.authenticator.authenticate(None, text)) == "bad_credentials"
    assert security.authenticator.live_keys == 1
    await security.close()


@pytest.mark.parametrize(
    ("authorization", "api_key", "code"),
    [
        (None, None, "not_authenticated"),
        (b"", None, "not_authenticated"),
        (b"Basic YTpi", None, "not_authenticated"),
        (b"Bearer", None, "bad_credentials"),
        (b"Bearer ", None, "bad_credentials"),
        (b"Bearer \xff\xfe\x00", None, "bad_credentials"),
        (b"Bearer pw_", None, "bad_credentials"),
        (b"Bearer pw_aaaaaaaa_" + b"A" * 43, None, "bad_credentials"),
        (b"Bearer pw__" + b"_" * 60, None, "bad_credentials"),
        (b"Bearer " + b"a." * 50_000, None, "bad_credentials"),
        (None, b"", "bad_credentials"),
        (None, b"pw_aaaaaaaa_" + b"\x80" * 43, "bad_credentials"),
        (b"Bearer x", b"pw_x", "two_credentials"),
    ],
)
async def test_malformed_headers_are_refused(
    tmp_path: Path, clock: HandClock, authorization: bytes | None, api_key: bytes | None, code: str
) -> None:
    security = await _open(tmp_path, clock)
    found = security.authenticator.authenticate(authorization, api_key)
    assert _code(found) == code
    assert isinstance(found, Refusal)
    if code != "two_credentials":
        assert dict(found.headers)["WWW-Authenticate"].startswith("Bearer realm=")
    await security.close()


async def test_last_use_is_written_later_and_together(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    assert security.first_key is not None
    text = security.first_key.text.encode()
    clock.move(minutes=5)
    for _ in range(3):
        _known(security.authenticator.authenticate(None, text))
    (key,) = await security.registry.clients.keys("admin")
    assert key.last_used is None
    await security.housekeeping()
    (key,) = await security.registry.clients.keys("admin")
    assert key.last_used == clock.at
    await security.close()


async def test_what_another_process_changes_holds_after_a_refresh(tmp_path: Path, clock: HandClock) -> None:
    security = await _open(tmp_path, clock)
    other = await Registry.open(tmp_path / "registry.sqlite", clock)
    client = await other.clients.client_for("h1", "resident")
    made = await other.clients.add_key(client.id)
    text = made.text.encode()
    assert _code(security.authenticator.authenticate(None, text)) == "bad_credentials"
    await security.registry.clients.add("desk", "operator")  # a change of our own does not hide the other's
    await security.housekeeping()
    _known(security.authenticator.authenticate(None, text))
    await other.clients.revoke_key(made.key.id)
    await security.housekeeping()
    assert _code(security.authenticator.authenticate(None, text)) == "bad_credentials"
    await other.close()
    await security.close()


async def test_a_revocation_during_a_refresh_is_not_undone(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = await _open(tmp_path, clock)
    clients = security.registry.clients
    made = await clients.add_key((await clients.client_for("h1", "resident")).id)
    other = await Registry.open(tmp_path / "registry.sqlite", clock)
    await other.clients.client_for("h2", "resident")
    plain, reads = clients.identities, 0

    async def slow() -> object:
        nonlocal reads
        reads += 1
        found = await plain()
        if reads == 1:
            await clients.revoke_key(made.key.id)
        return found

    monkeypatch.setattr(clients, "identities", slow)
    await security.authenticator.refresh()
    assert _code(security.authenticator.authenticate(None, made.text.encode())) == "bad_credentials"
    assert reads == 2
    await other.close()
    await security.close()


async def test_a_role_of_a_newer_version_may_nothing(tmp_path: Path, clock: HandClock) -> None:
    registry = await Registry.open(tmp_path / "registry.sqlite", clock)
    await registry.clients.add("desk", "operator")
    text = (await registry.clients.add_key("desk")).text.encode()
    from sqlalchemy import update

    from peerwatt.store.schema import ClientRow

    async with registry._database.write() as session:
        await session.execute(update(ClientRow).values(role="overlord"))
    authenticator = await Authenticator.open(registry, clock, TokenIssuer(b"x" * 32))
    who = _known(authenticator.authenticate(None, text))
    assert who.scopes == frozenset() and not who.sees("h1")
    await authenticator.close()
    await registry.close()


async def test_a_check_is_quick(tmp_path: Path, clock: HandClock) -> None:
    """About 2 us on a quiet machine; ten times that is a database or a slow hash on the way."""
    security = await _open(tmp_path, clock)
    assert security.first_key is not None
    header = b"Bearer " + security.first_key.text.encode()
    ask = security.authenticator.authenticate
    assert min(timeit.repeat(lambda: ask(header, None), number=2000, repeat=7)) / 2000 < 20e-6
    await security.close()


def test_every_role_has_known_scopes_and_the_admin_all() -> None:
    for name, role in ROLES.items():
        assert role.scopes <= set(SCOPES), name
    assert ROLES["admin"].scopes == set(SCOPES)
    assert {scope for role in ROLES.values() for scope in role.scopes} == set(SCOPES)
    personal = {name for name, role in ROLES.items() if "personal:read" in role.scopes and role.reach == "all"}
    assert personal == {"admin"}
    assert [name for name, role in ROLES.items() if "personal:erase" in role.scopes] == ["admin"]
    # those who may trade are never those who run the market
    for role in ROLES.values():
        if role is not ROLES["admin"]:
            assert not {"orders:write", "market:operate"} <= role.scopes


@pytest.mark.slow
def test_secrets_are_salted_and_slow_ones_checked_whole() -> None:
    first, second = secrets.hash_secret("correct"), secrets.hash_secret("correct")
    assert first != second and first.startswith("scrypt$16384$8$5$")
    assert secrets.secret_fits("correct", first)
    assert not secrets.secret_fits("wrong", first)


def test_a_private_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    from core.errors import ServiceError

    kept = secrets.kept_secret(tmp_path / "token.key")
    assert len(kept) == 32 and secrets.kept_secret(tmp_path / "token.key") == kept
    assert (tmp_path / "token.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "token.key").chmod(0o644)
    with pytest.raises(ServiceError, match="others can read"):
        secrets.kept_secret(tmp_path / "token.key")
    secrets.write_private(tmp_path / "short.key", b"short")
    with pytest.raises(ServiceError, match="32 bytes"):
        secrets.kept_secret(tmp_path / "short.key")
