"""Where the broker is and how it is spoken to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.errors import ServiceError

PORT, TLS_PORT = 1883, 8883


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS connection. ``ca`` None: the system's authorities. ``certificate``: our own, if asked for."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What the connection needs; the broker's name is always checked.

        Raises
        ------
        ServiceError
            If a file cannot be read or does not fit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            files = ", ".join(str(f) for f in (self.ca, self.certificate, self.key) if f is not None)
            raise ServiceError(
                f"TLS files {files}: {error}", remedy="give PEM files: authority, own certificate, its key"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """A broker and our account on it.

    Parameters
    ----------
    host, port
        Its address.
    user, password
        Our account.
    tls
        None: no encryption.
    client_id
        Our session's name on the broker, where it keeps what came in while we were away; one client at a time.
    keepalive_s
        A silent connection is given up after this, 1.5 times at most [s].
    session_expiry_s
        How long the broker keeps our session when we are gone [s].
    timeout_s
        How long connecting, subscribing and the acknowledgement of a message may take [s].
    receive_maximum
        Messages the broker may send before we have dealt with the first of them: what is in our hands is bounded.
    in_flight
        Messages we send before the broker has acknowledged the first of them.
    will_delay_s
        How long the broker waits for us to come back before it publishes our last will [s].
    """

    host: str
    port: int = PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    client_id: str = "peerwatt"
    keepalive_s: int = 15
    session_expiry_s: int = 86_400
    timeout_s: float = 10.0
    receive_maximum: int = 200
    in_flight: int = 20
    will_delay_s: int = 5

    @property
    def url(self) -> str:
        """The address without the password, for messages."""
        user = f"{self.user}@" if self.user else ""
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{user}{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the broker is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def from_url(
        cls, url: str, *, password: str | None = None, tls: TlsFiles | None = None, plain: bool = False
    ) -> BrokerSettings:
        """Settings from ``mqtt://user@host:1883`` or, encrypted, ``mqtts://user@host:8883``.

        Parameters
        ----------
        password
            Better given here than in the address, which others may see.
        tls
            Files of an encrypted connection.
        plain
            Allow an unencrypted connection to another machine.

        Raises
        ------
        ServiceError
            If the address is none, or would send a password over the network in the clear.
        """
        remedy = "write mqtt://user@host:1883 or mqtts://user@host:8883"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ServiceError(f"the broker's address does not parse: {error}", remedy=remedy) from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ServiceError("the broker's address is no mqtt:// or mqtts:// address", remedy=remedy)
        encrypted = parts.scheme == "mqtts"
        if tls is not None and not encrypted:
            raise ServiceError("TLS files are given but the broker's address says mqtt://", remedy="write mqtts://")
        settings = cls(
            host=parts.hostname,
            port=port or (TLS_PORT if encrypted else PORT),
            user=unquote(parts.username) if parts.username else None,
            password=password if password is not None else (unquote(parts.password) if parts.password else None),
            tls=(tls or TlsFiles()) if encrypted else None,
        )
        if not encrypted and not plain and not settings.loopback:
            raise ServiceError(
                f"{settings.url} is another machine and the connection would not be encrypted",
                remedy="use mqtts:// with a certificate, or say that you want it plain",
            )
        return settings

    def with_client_id(self, client_id: str) -> BrokerSettings:
        """The same under another session name."""
        return replace(self, client_id=client_id)
