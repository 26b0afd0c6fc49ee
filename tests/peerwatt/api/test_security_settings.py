"""``security.yaml``: what it may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ServiceError
from peerwatt.api.rate_limit import Rate
from peerwatt.api.security import Security
from peerwatt.api.security_settings import SecuritySettings, read_settings
from tests.peerwatt.store.places import HandClock, clock

__all__ = ["clock"]

WHOLE = """
names: [market.example]
rates:
  orders: {per_s: 5000, burst: 20000}
outside:
  - name: login
    issuer: https://login.example
    audience: peerwatt
    algorithm: ES256
    jwks: https://login.example/keys
    role_claim: groups
    roles: {network-desk: grid}
"""


async def test_settings_are_read_at_the_start(tmp_path: Path, clock: HandClock) -> None:
    assert read_settings(tmp_path / "security.yaml") == SecuritySettings()
    (tmp_path / "security.yaml").write_text(WHOLE)
    settings = read_settings(tmp_path / "security.yaml")
    assert settings.rates == {"orders": Rate(5000, 20_000)}
    assert settings.outside[0].roles == {"network-desk": "grid"} and settings.outside[0].client_claim == "sub"
    (tmp_path / "security.yaml").write_text(WHOLE.partition("outside:")[0])
    security = await Security.open(tmp_path, clock)
    assert security.names == ("market.example",)
    assert security.limiter.rates["orders"] == Rate(5000, 20_000)
    assert security.limiter.rates["read"].burst > 0, "the others stay as they are"
    await security.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmaes: [x]", "nmaes is unknown"),
        ("rates: {oders: {per_s: 1, burst: 1}}", "'oders' is unknown"),
        ("rates: {orders: {per_s: 0, burst: 1}}", "more than 0 per second"),
        ("rates: {orders: 5}", "Expected `object`"),
        ("[]", "Expected `object`"),
        ("", "Expected `object`"),
        ("{", "security.yaml"),
        (WHOLE.replace("ES256", "HS256"), "cannot be signed"),
        (WHOLE.replace("https://login.example/keys", "http://login.example/keys"), "in the clear"),
        (WHOLE.replace("role_claim", "rol_claim"), "rol_claim is unknown"),
        (WHOLE.replace("audience: peerwatt", ""), "audience"),
    ],
)
def test_what_means_nothing_is_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "security.yaml").write_text(text)
    with pytest.raises(ServiceError, match=says):
        read_settings(tmp_path / "security.yaml")
