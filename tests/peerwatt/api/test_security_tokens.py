"""OAuth tokens: how they are got, and every way in which one that does not hold is refused."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from peerwatt.api.rate_limit import Rate
from peerwatt.api.roles import ROLES
from peerwatt.api.tokens import LIFETIME
from peerwatt.store import secrets
from tests.peerwatt.api.security_app import bearer, served
from tests.peerwatt.store.places import HandClock, clock

__all__ = ["clock"]

FORM = {"grant_type": "client_credentials"}
ASK = "/api/v1/oauth/token"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_N", 2)
    monkeypatch.setattr(secrets, "_P", 1)


async def _client(security: Any, name: str = "dawn") -> str:
    await security.registry.clients.add(name, "aggregator", participants=("h1", "h2"))
    return str(await security.registry.clients.set_secret(name))


async def test_a_secret_becomes_a_short_token(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        secret = await _client(security)
        for how in (
            {"data": {**FORM, "client_id": "dawn", "client_secret": secret}},
            {"data": FORM, "auth": ("dawn", secret)},
            {"data": {**FORM, "client_id": "dawn"}, "auth": ("dawn", secret)},
        ):
            answer = await http.post(ASK, **how)
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store" and answer.headers["pragma"] == "no-cache"
            told = answer.json()
            assert told["token_type"] == "Bearer" and told["expires_in"] == 900
            assert told["scope"].split() == sorted(ROLES["aggregator"].scopes)
            me = (await http.get("/api/v1/me", headers=bearer(told["access_token"]))).json()
            assert me == {"client_id": "dawn", "scopes": told["scope"].split(), "participants": ["h1", "h2"]}
        claims = jwt.decode(told["access_token"], options={"verify_signature": False})
        assert claims["sub"] == claims["client_id"] == "dawn"
        assert not {"h1", "h2"} & set(json.dumps(claims).split('"')), "the token names no participant"


async def test_a_token_may_be_narrowed_and_never_widened(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        secret = await _client(security)
        auth = ("dawn", secret)
        answer = await http.post(ASK, data={**FORM, "scope": "market:read orders:read"}, auth=auth)
        token = answer.json()["access_token"]
        assert answer.json()["scope"] == "market:read orders:read"
        assert (await http.get("/api/v1/participants/h1/orders", headers=bearer(token))).status_code == 200
        wrong = await http.post("/api/v1/orders?participant=h1", json={"e_wh": 1}, headers=bearer(token))
        assert wrong.status_code == 403
        assert 'error="insufficient_scope", scope="orders:write"' in wrong.headers["www-authenticate"]
        for asked in ("audit:read", "market:read audit:read", "market:read  orders:read", "MARKET:READ", "x" * 500):
            answer = await http.post(ASK, data={**FORM, "scope": asked}, auth=auth)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
        # made with more than the role has, e.g. before roles were changed
        client = await security.registry.clients.get("dawn")
        wide = security.authenticator._issuer.issue(client, frozenset({"audit:read", "orders:read"}), clock())
        assert (await http.get("/api/v1/me", headers=bearer(wide))).json()["scopes"] == ["orders:read"]


@pytest.mark.parametrize(
    ("status", "error", "change"),
    [
        (401, "invalid_client", {"auth": ("dawn", "wrong")}),
        (401, "invalid_client", {"auth": ("nobody", "wrong")}),
        (401, "invalid_client", {"auth": ("nul\x00", "\x00")}),
        (401, "invalid_client", {"data": FORM}),
        (401, "invalid_client", {"data": {**FORM, "client_id": "dawn"}}),
        (401, "invalid_client", {"data": FORM, "headers": {"Authorization": "Bearer x"}}),
        (401, "invalid_client", {"data": FORM, "headers": {"Authorization": "Basic !!!"}}),
        (401, "invalid_client", {"data": FORM, "headers": {"Authorization": "Basic /w=="}}),
        (400, "invalid_request", {"data": {**FORM, "client_secret": "x"}, "auth": ("dawn", "x")}),
        (400, "invalid_request", {"data": {**FORM, "client_id": "other"}, "auth": ("dawn", "x")}),
        (400, "invalid_request", {"json": FORM}),
        (400, "invalid_request", {"content": b"grant_type", "auth": ("dawn", "x")}),
        (400, "invalid_request", {"content": b"grant_type=client_credentials&grant_type=x", "auth": ("dawn", "x")}),
        (400, "invalid_request", {"content": b"\xff\xfe=\x00", "auth": ("dawn", "x")}),
        (400, "invalid_request", {"content": b"&".join(b"a%d=1" % n for n in range(30)), "auth": ("dawn", "x")}),
        (400, "invalid_request", {"content": b"", "auth": ("dawn", "x")}),
        (400, "unsupported_grant_type", {"data": {"grant_type": "password"}, "auth": ("dawn", "x")}),
    ],
)
async def test_errors_are_those_of_the_standard(
    tmp_path: Path, clock: HandClock, status: int, error: str, change: dict[str, Any]
) -> None:
    async with served(tmp_path, clock) as (security, http):
        await _client(security)
        how = {"data": FORM, **change} if not {"json", "content"} & set(change) else dict(change)
        if "content" in how:
            how["headers"] = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await http.post(ASK, **how)
        assert (answer.status_code, answer.json()["error"]) == (status, error)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers.get("www-authenticate", "").startswith("Basic") == (status == 401)


async def test_a_clients_key_is_as_good_as_a_secret(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        security.limiter.rates["token"] = Rate(1000, 1000)
        clients = security.registry.clients
        for name in ("h1", "h2"):
            await clients.client_for(name, "resident")
        key = await clients.add_key("h1~resident")
        short = await clients.add_key("h1~resident", expires=clock() + timedelta(minutes=5))

        async def ask(name: str, secret: str) -> Any:
            return await http.post(ASK, data=FORM, auth=(name, secret))

        answer = await ask("h1~resident", key.text)
        assert answer.status_code == 200, answer.text
        token = bearer(answer.json()["access_token"])
        assert (await http.get("/api/v1/me", headers=token)).json()["participants"] == ["h1"]
        assert (await ask("h1~resident", short.text)).json()["expires_in"] == 300, "no longer than the key"
        assert (await ask("h2~resident", key.text)).status_code == 401, "somebody else's"
        assert (await ask("h1~resident", key.text[:-1] + "_")).status_code == 401
        assert (await ask("h1~resident", "pw_äääääää_" + "A" * 37)).status_code == 401
        clock.move(minutes=5)
        assert (await ask("h1~resident", short.text)).status_code == 401
        assert (await http.get("/api/v1/me", headers=token)).status_code == 200
        await clients.revoke_key(key.key.id)
        assert (await ask("h1~resident", key.text)).status_code == 401
        assert (await http.get("/api/v1/me", headers=token)).status_code == 401, "it ends with the key"


async def test_nobody_can_guess_for_long(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    plain = secrets.secret_fits
    monkeypatch.setattr(secrets, "secret_fits", lambda *how: hashed.append(how[0]) or plain(*how))
    async with served(tmp_path, clock) as (security, http):
        await _client(security)
        statuses = [(await http.post(ASK, data=FORM, auth=("nobody", f"{number}"))).status_code for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert len(hashed) == 10, "an unknown client takes as long as a wrong secret, and a refused try no time"
        answer = await http.post(ASK, data=FORM, auth=("dawn", "x"))
        assert answer.status_code == 429 and answer.headers["retry-after"] == "5"
        assert answer.headers["content-type"] == "application/problem+json"
        clock.elapsed.s += 5  # type: ignore[attr-defined]
        assert (await http.post(ASK, data=FORM, auth=("dawn", "x"))).status_code == 401


async def test_a_token_ends(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        secret = await _client(security)

        async def token() -> dict[str, str]:
            answer = await http.post(ASK, data=FORM, auth=("dawn", secret))
            return bearer(answer.json()["access_token"])

        async def status(headers: dict[str, str]) -> int:
            answer = await http.get("/api/v1/me", headers=headers)
            if answer.status_code == 401:
                assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            return answer.status_code

        old = await token()
        clock.move(seconds=LIFETIME.total_seconds() - 1)
        assert await status(old) == 200
        clock.move(seconds=1)
        assert await status(old) == 401, "by its age, although it was verified before"
        fresh = await token()
        assert await status(fresh) == 200
        await security.registry.clients.set_participants("dawn", ("h2",))
        assert (await http.get("/api/v1/me", headers=fresh)).json()["participants"] == ["h2"]
        new_secret = await security.registry.clients.set_secret("dawn")
        assert await status(fresh) == 401, "when the secret is changed"
        assert (await http.post(ASK, data=FORM, auth=("dawn", secret))).status_code == 401
        secret = new_secret
        fresh = await token()
        assert await status(fresh) == 200
        await security.registry.clients.revoke("dawn")
        assert await status(fresh) == 401, "when the client is revoked"
        assert (await http.post(ASK, data=FORM, auth=("dawn", secret))).status_code == 401


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _mac(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).rstrip(b"=").decode()


async def test_forged_tokens_are_refused(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        await _client(security)
        issuer = security.authenticator._issuer
        client = await security.registry.clients.get("dawn")
        good = issuer.issue(client, frozenset({"orders:read"}), clock())
        head, body, signature = good.split(".")
        claims = jwt.decode(good, options={"verify_signature": False})
        header = {"typ": "at+jwt", "alg": "HS256"}
        key = issuer._key

        def signed(change: dict[str, Any], *, by: Any = key, algorithm: str = "HS256", typ: str = "at+jwt") -> str:
            wanted = {name: value for name, value in {**claims, **change}.items() if value is not None}
            return jwt.encode(wanted, by, algorithm, headers={"typ": typ})

        assert (await http.get("/api/v1/me", headers=bearer(signed({})))).status_code == 200
        deep = base64.urlsafe_b64encode(b'{"alg":"HS256","x":' + b"[" * 5000 + b"]" * 5).rstrip(b"=").decode()
        forged = {
            "no algorithm": f"{_part({**header, 'alg': 'none'})}.{body}.",
            "no algorithm, spelt oddly": f"{_part({**header, 'alg': 'nOnE'})}.{body}.{signature}",
            "no signature": f"{head}.{body}.",
            "another body": f"{head}.{_part({**claims, 'sub': 'admin'})}.{signature}",
            "another key": signed({}, by=b"k" * 32),
            "an empty key": f"{head}.{body}.{_mac(b'', f'{head}.{body}')}",
            "another algorithm of the same family": signed({}, by=key * 2, algorithm="HS512"),
            "another audience": signed({"aud": "somebody-else"}),
            "several audiences": signed({"aud": ["peerwatt-api", "somebody-else"]}),
            "no audience": signed({"aud": None}),
            "another issuer": signed({"iss": "https://evil.example"}),
            "no expiry": signed({"exp": None}),
            "an expiry that is no number": signed({"exp": True}),
            "an endless expiry": signed({"exp": 10**18}),
            "an ID token": signed({}, typ="JWT"),
            "no version": signed({"version": None}),
            "an old version": signed({"version": 1}),
            "an unknown client": signed({"sub": "nobody"}),
            "a deep header": f"{deep}.{body}.{signature}",
            "a header that is a list": f"{_part([])}.{body}.{signature}",
            "a body that is a list": jwt.PyJWS().encode(b"[]", key, "HS256", headers={"typ": "at+jwt"}),
            "five parts": ".".join([head, body, signature, "x", "y"]),
        }
        for what, token in forged.items():
            answer = await http.get("/api/v1/me", headers=bearer(token))
            assert answer.status_code == 401, what
            assert answer.json()["code"] == "bad_credentials", what
        assert claims["version"] == 2 and claims["exp"] - claims["iat"] == 900
        answer = await http.get("/api/v1/me", headers={"X-API-Key": good})
        assert answer.status_code == 401, "a token stands in Authorization alone"


async def test_tokens_survive_a_restart_and_end_with_the_key_file(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        secret = await _client(security)
        answer = await http.post(ASK, data=FORM, auth=("dawn", secret))
        token = bearer(answer.json()["access_token"])
    async with served(tmp_path, clock) as (_, http):
        assert (await http.get("/api/v1/me", headers=token)).status_code == 200
    (tmp_path / "token.key").unlink()
    async with served(tmp_path, clock) as (_, http):
        assert (await http.get("/api/v1/me", headers=token)).status_code == 401


async def test_remembered_tokens_are_bounded(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerwatt.api.principal.MAX_TOKENS", 5)
    async with served(tmp_path, clock) as (security, http):
        await _client(security)
        client = await security.registry.clients.get("dawn")
        for _ in range(12):
            token = security.authenticator._issuer.issue(client, frozenset({"orders:read"}), clock())
            assert (await http.get("/api/v1/me", headers=bearer(token))).status_code == 200
        assert len(security.authenticator._tokens) == 5
        await security.registry.clients.revoke("dawn")
        assert len(security.authenticator._tokens) == 0, "nothing of a revoked client is remembered"


async def test_a_token_made_before_its_time_ends_all_the_same(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        await _client(security)
        client = await security.registry.clients.get("dawn")
        old = security.authenticator._issuer.issue(client, frozenset(), clock() - timedelta(hours=1))
        assert (await http.get("/api/v1/me", headers=bearer(old))).status_code == 401
