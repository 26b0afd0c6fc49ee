"""Where the market is, and how a client shows who it is."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx

from peerwatt.client.errors import ClientError

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class OAuth:
    """OAuth 2 client credentials; tokens are fetched, and fetched again when they run out."""

    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Address and credentials.

    Parameters
    ----------
    url
        ``http://127.0.0.1:8000`` or ``https://market.example``, with or without ``/api/v1``.
    key
        An API key, or
    oauth
        client credentials; neither for what is open.
    ca
        File with the certificate authority to trust instead of the system's.
    plain_http
        Allow credentials over HTTP without TLS to another machine.
    timeout_s
        For one attempt [s].

    Raises
    ------
    ClientError
        If the address is none, both kinds of credentials are given, or they would cross a network in clear text.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    oauth: OAuth | None = None
    ca: str | Path | None = None
    plain_http: bool = False
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ClientError(f"{self.url!r} is no address: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ClientError(f"{self.url!r} is no address; write it like http://127.0.0.1:8000")
        if self.key is not None and self.oauth is not None:
            raise ClientError("give an API key or client credentials, not both")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise ClientError("the API key holds characters that no key has; is it the file's name, or two lines?")
        secret = self.key is not None or self.oauth is not None
        if secret and url.scheme == "http" and not self.plain_http and not is_loopback(url.host):
            raise ClientError(
                f"{url.host} would get the credentials in clear text; use https, or say plain_http=True on a network "
                "that nobody else can read"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """From ``PEERWATT_URL`` and ``PEERWATT_KEY``, or ``PEERWATT_CLIENT_ID`` and ``PEERWATT_CLIENT_SECRET``.

        ``PEERWATT_CA`` names a certificate authority, ``PEERWATT_PLAIN_HTTP=1`` is ``plain_http``.
        """
        env = os.environ if environ is None else environ
        url = env.get("PEERWATT_URL")
        if not url:
            raise ClientError("PEERWATT_URL is not set; for example PEERWATT_URL=http://127.0.0.1:8000")
        client_id, secret = env.get("PEERWATT_CLIENT_ID"), env.get("PEERWATT_CLIENT_SECRET")
        return cls(
            url,
            key=env.get("PEERWATT_KEY") or None,
            oauth=OAuth(client_id, secret) if client_id and secret else None,
            ca=env.get("PEERWATT_CA") or None,
            plain_http=env.get("PEERWATT_PLAIN_HTTP") == "1",
        )

    @property
    def base_url(self) -> str:
        """The address that endpoints are below, without a slash at the end."""
        root = self.url.rstrip("/").removesuffix(API)
        return root + API

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(httpx.URL(self.url).host)

    def verify(self) -> ssl.SSLContext | bool:
        """What httpx checks certificates with."""
        if self.ca is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise ClientError(f"{self.ca} holds no certificate that can be read: {error}") from None

    def timeouts(self, *, stream: bool = False) -> httpx.Timeout:
        """Time-outs of one attempt; a stream may be silent, but not for three signs of life."""
        return httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0), read=45.0 if stream else self.timeout_s)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
