"""Tokens of an issuer elsewhere: taken as the operator says, and in no other way."""

from __future__ import annotations

import hmac
import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from core.errors import ServiceError
from peerwatt.api.outside import OutsideConfig
from peerwatt.api.roles import ROLES
from tests.peerwatt.api.security_app import bearer, served
from tests.peerwatt.store.places import HandClock, clock

__all__ = ["clock"]

ISSUER = "https://login.example"
AUDIENCE = "peerwatt"


@cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def _other_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _jwk(key: Any, kid: str, algorithm: str = "RS256") -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", "alg": algorithm}


def _keys(folder: Path, *keys: dict[str, Any]) -> str:
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": list(keys)}))
    return str(file)


def _config(folder: Path, **change: Any) -> OutsideConfig:
    settings = {
        "name": "login",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithm": "RS256",
        "jwks": str(folder / "jwks.json"),
        **change,
    }
    return OutsideConfig(**settings)


def _token(clock: HandClock, *, by: Any = None, algorithm: str = "RS256", kid: str | None = "a", **change: Any) -> str:
    at = int(clock().timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "dawn", "iat": at, "exp": at + 600, **change}
    wanted = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(wanted, by or _rsa(), algorithm, headers={} if kid is None else {"kid": kid})


async def test_a_registered_client_may_come_with_a_token_from_elsewhere(tmp_path: Path, clock: HandClock) -> None:
    _keys(tmp_path, _jwk(_rsa(), "a"))
    async with served(tmp_path, clock, outside=[_config(tmp_path)]) as (security, http):
        await security.registry.clients.add("dawn", "aggregator", participants=("h1",))
        me = await http.get("/api/v1/me", headers=bearer(_token(clock)))
        assert me.status_code == 200, me.text
        assert me.json()["participants"] == ["h1"] and me.json()["scopes"] == sorted(ROLES["aggregator"].scopes)
        own = security.authenticator._issuer.issue(
            await security.registry.clients.get("dawn"), frozenset({"orders:read"}), clock()
        )
        assert (await http.get("/api/v1/me", headers=bearer(own))).json()["scopes"] == ["orders:read"]
        token = bearer(_token(clock, aud=["x", AUDIENCE]))
        assert (await http.get("/api/v1/me", headers=token)).status_code == 200
        await security.registry.clients.revoke("dawn")
        assert (await http.get("/api/v1/me", headers=token)).status_code == 401
        assert (await http.get("/api/v1/me", headers=bearer(_token(clock, sub="nobody")))).status_code == 401


async def test_what_is_not_as_the_operator_said_is_refused(tmp_path: Path, clock: HandClock) -> None:
    _keys(tmp_path, _jwk(_rsa(), "a"))
    public = _rsa().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    async with served(tmp_path, clock, outside=[_config(tmp_path)]) as (security, http):
        await security.registry.clients.add("dawn", "aggregator", participants=("h1",))
        at = int(clock().timestamp())
        good = _token(clock)
        head, body, _ = jwt.encode(
            jwt.decode(good, options={"verify_signature": False}), b"k" * 32, "HS256", headers={"kid": "a"}
        ).split(".")
        from base64 import urlsafe_b64encode

        confused = urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).rstrip(b"=").decode()
        own_key = security.authenticator._issuer._key
        forged = {
            "the public key as a shared secret": f"{head}.{body}.{confused}",
            "the service's own key and the other's name": _token(clock, by=own_key, algorithm="HS256"),
            "another key under the same id": _token(clock, by=_other_rsa()),
            "an unknown key": _token(clock, by=_other_rsa(), kid="b"),
            "another algorithm with the same key": _token(clock, algorithm="PS256"),
            "another audience": _token(clock, aud="elsewhere"),
            "no audience": _token(clock, aud=None),
            "another issuer": _token(clock, iss="https://evil.example"),
            "our own name": _token(clock, iss="peerwatt", aud="peerwatt-api", scope="orders:read", version=1),
            "expired": _token(clock, exp=at),
            "no expiry": _token(clock, exp=None),
            "not yet": _token(clock, nbf=at + 3600),
            "made in the future": _token(clock, iat=at + 3600),
            "nobody": _token(clock, sub=None),
            "a subject that is no text": jwt.PyJWS().encode(
                json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": 7, "iat": at, "exp": at + 600}).encode(),
                _rsa(),
                "RS256",
                headers={"kid": "a"},
            ),
        }
        assert (await http.get("/api/v1/me", headers=bearer(good))).status_code == 200
        for what, token in forged.items():
            answer = await http.get("/api/v1/me", headers=bearer(token))
            assert (answer.status_code, answer.json()["code"]) == (401, "bad_credentials"), what
        token = bearer(_token(clock))
        assert (await http.get("/api/v1/me", headers=token)).status_code == 200
        clock.move(minutes=10)
        assert (await http.get("/api/v1/me", headers=token)).status_code == 401


async def test_claims_stand_for_roles_as_the_operator_says(tmp_path: Path, clock: HandClock) -> None:
    _keys(tmp_path, _jwk(_rsa(), "a"))
    config = _config(
        tmp_path,
        role_claim="groups",
        roles={"network-desk": "grid", "homes": "resident", "sellers": "aggregator"},
        participants_claim="homes",
        scope_claim="scope",
    )
    async with served(tmp_path, clock, outside=[config]) as (_, http):

        async def me(**claims: Any) -> Any:
            return await http.get("/api/v1/me", headers=bearer(_token(clock, **claims)))

        grid = (await me(groups=["staff", "network-desk"], scope="audit:read orders:write openid")).json()
        assert grid == {"client_id": "login:dawn", "scopes": ["audit:read"], "participants": []}
        home = (await me(groups="homes", homes="h1", scope="orders:read")).json()
        assert home == {"client_id": "login:dawn", "scopes": ["orders:read"], "participants": ["h1"]}
        seller = (await me(groups=["sellers"], homes=["h1", "h2", "NOT AN ID", 7], scope="")).json()
        assert seller == {"client_id": "login:dawn", "scopes": [], "participants": ["h1", "h2"]}
        for wrong in (
            {},
            {"groups": "king"},
            {"groups": ["homes", "network-desk"], "homes": "h1"},
            {"groups": "homes"},
            {"groups": "homes", "homes": ["h1", "h2"]},
            {"groups": {"network-desk": True}},
        ):
            assert (await me(**wrong)).status_code == 401, wrong


async def test_changed_keys_are_fetched(tmp_path: Path, clock: HandClock) -> None:
    _keys(tmp_path, _jwk(_rsa(), "a"))
    async with served(tmp_path, clock, outside=[_config(tmp_path)]) as (security, http):
        await security.registry.clients.add("dawn", "aggregator", participants=("h1",))
        await security.housekeeping()
        _keys(tmp_path, _jwk(_other_rsa(), "b"))
        fresh = bearer(_token(clock, by=_other_rsa(), kid="b"))
        assert (await http.get("/api/v1/me", headers=fresh)).status_code == 401
        assert security.outside[0].wants_keys
        clock.move(seconds=10)
        await security.housekeeping()
        assert security.outside[0].wants_keys, "not more often than every half minute, whoever asks"
        clock.move(seconds=30)
        await security.housekeeping()
        assert (await http.get("/api/v1/me", headers=fresh)).status_code == 200
        (tmp_path / "jwks.json").write_text("gone")
        clock.move(minutes=6)
        await security.housekeeping()
        again = bearer(_token(clock, by=_other_rsa(), kid="b"))
        assert (await http.get("/api/v1/me", headers=again)).status_code == 200, "the last good keys stay"


@pytest.mark.parametrize(("algorithm", "key"), [
    ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ("PS256", None),
])  # fmt: skip
async def test_other_signatures(tmp_path: Path, clock: HandClock, algorithm: str, key: Any) -> None:
    key = key or _rsa()
    made = _jwk(key, "a", algorithm)
    _keys(
        tmp_path, {name: value for name, value in made.items() if name not in ("alg", "use")}, {"kty": "oct", "k": "AA"}
    )
    async with served(tmp_path, clock, outside=[_config(tmp_path, algorithm=algorithm)]) as (security, http):
        await security.registry.clients.add("dawn", "aggregator", participants=("h1",))
        for kid in ("a", None):
            token = _token(clock, by=key, algorithm=algorithm, kid=kid)
            assert (await http.get("/api/v1/me", headers=bearer(token))).status_code == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"algorithm": "HS256"}, "cannot be signed"),
        ({"algorithm": "none"}, "cannot be signed"),
        ({"audience": ""}, "needs a name"),
        ({"roles": {"x": "king"}}, "no role 'king'"),
        ({"jwks": "http://login.example/keys"}, "in the clear"),
        ({"jwks": "ftp://login.example/keys"}, "in the clear"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ServiceError, match=says):
        _config(tmp_path, **change)


@pytest.mark.parametrize(
    "content",
    [None, "no json", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}', "x" * 300_000],
)
async def test_without_usable_keys_the_service_does_not_start(
    tmp_path: Path, clock: HandClock, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "jwks.json").write_text(content)
    with pytest.raises(ServiceError, match=r"keys of https://login\.example cannot be read"):
        async with served(tmp_path, clock, outside=[_config(tmp_path)]):
            pass


async def test_a_private_key_in_the_set_is_not_used(tmp_path: Path, clock: HandClock) -> None:
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(_rsa()))
    _keys(tmp_path, {**private, "kid": "a"}, _jwk(_other_rsa(), "b"))
    async with served(tmp_path, clock, outside=[_config(tmp_path)]) as (security, http):
        await security.registry.clients.add("dawn", "aggregator", participants=("h1",))
        assert (await http.get("/api/v1/me", headers=bearer(_token(clock)))).status_code == 401
        clock.move(hours=1)
        token = _token(clock, by=_other_rsa(), kid="b", exp=int((clock() + timedelta(minutes=1)).timestamp()))
        assert (await http.get("/api/v1/me", headers=bearer(token))).status_code == 200
