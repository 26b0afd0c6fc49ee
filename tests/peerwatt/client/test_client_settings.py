"""Addresses and credentials: what can be, and what is refused before anything crosses a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peerwatt.client import AsyncClient, Client, ClientError, OAuth
from peerwatt.client.settings import Settings
from tests.peerwatt.client.misbehaving import Answer, MisbehavingServer


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://127.0.0.1:8000/",
        "http://127.0.0.1:8000/api/v1",
        "http://127.0.0.1:8000/api/v1/",
    ],
)
def test_addresses_mean_the_same(url: str) -> None:
    assert Settings(url).base_url == "http://127.0.0.1:8000/api/v1"


def test_a_service_below_another_path() -> None:
    assert Settings("https://grid.example/market/").base_url == "https://grid.example/market/api/v1"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "", "http://a:b:c", "localhost"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ClientError, match="no address"):
        Client(url)


def test_credentials_do_not_cross_a_network_in_clear_text() -> None:
    for secret in ({"key": "pw_a_b"}, {"oauth": OAuth("a", "b")}):
        for kind in (Client, AsyncClient):
            with pytest.raises(ClientError, match="clear text"):
                kind("http://market.example", **secret)  # type: ignore[arg-type]
        Client("http://market.example", **secret, plain_http=True).close()  # type: ignore[arg-type]
        for url in ("http://localhost:1", "http://127.8.9.1:1", "http://[::1]:1", "https://market.example"):
            Client(url, **secret).close()  # type: ignore[arg-type]
    Client("http://market.example").close()


@pytest.mark.parametrize("key", ["pw_a b", "pw_a\npw_b", "pw_ä", "pw_a\t"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ClientError, match="API key"):
        Client("http://127.0.0.1:1", key)


def test_keys_are_not_shown() -> None:
    client = Client("http://127.0.0.1:1", "pw_id_secret")
    assert "secret" not in f"{client!r} {client._core.settings!r}"
    client.close()


def test_both_kinds_of_credentials() -> None:
    with pytest.raises(ClientError, match="not both"):
        Client("http://127.0.0.1:1", "pw_a", oauth=OAuth("a", "b"))


def test_a_ca_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ClientError, match="no certificate"):
            Client("https://market.example", ca=tmp_path / name)


def test_from_the_environment() -> None:
    health = Answer(200, {"status": "ok"})
    with MisbehavingServer(health, health) as server:
        with Client.from_env({"PEERWATT_URL": server.url, "PEERWATT_KEY": "pw_x"}) as client:
            assert client.health().status == "ok"
        with Client.from_env({"PEERWATT_URL": server.url}) as client:
            client.health()
    assert [seen.headers.get("authorization") for seen in server.seen] == ["Bearer pw_x", None]
    with pytest.raises(ClientError, match="PEERWATT_URL is not set"):
        AsyncClient.from_env({})
    own = Settings.from_env(
        {
            "PEERWATT_URL": "https://m.example",
            "PEERWATT_CLIENT_ID": "a",
            "PEERWATT_CLIENT_SECRET": "b",
            "PEERWATT_CA": "c",
        }
    )
    assert (own.oauth, own.ca) == (OAuth("a", "b"), "c")


def test_a_loopback_address_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with MisbehavingServer(Answer(200, {"status": "ok"})) as server, Client(server.url) as client:
        assert client.health().status == "ok"


def test_the_client_needs_nothing_of_the_market() -> None:
    code = (
        "import sys, peerwatt.client; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'core','market','grid','numpy','pandas','fastapi'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
