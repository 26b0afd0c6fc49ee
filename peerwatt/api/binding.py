"""Where the service may listen: on this machine as it likes, beyond it only encrypted and with keys."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from core.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Binding:
    """An address the service may listen on.

    ``loopback``: nobody else can reach it. ``hosts``: names it goes by, for `peerwatt.api.headers.Shield`.
    """

    host: str
    loopback: bool
    hosts: frozenset[str]
    certificate: Path | None = None
    private_key: Path | None = None

    def uvicorn(self) -> dict[str, Any]:
        """Arguments for ``uvicorn.Config``: the address, TLS 1.2 or newer if there is a certificate, no banner."""
        arguments: dict[str, Any] = {"host": self.host, "server_header": False}
        if self.certificate is not None and self.private_key is not None:
            context = tls_context(self.certificate, self.private_key)
            arguments["ssl_context_factory"] = lambda _config, _default: context
        return arguments


def check_binding(
    host: str,
    *,
    certificate: Path | None = None,
    private_key: Path | None = None,
    live_keys: int,
    behind_proxy: bool = False,
    names: tuple[str, ...] = (),
) -> Binding:
    """What may be listened on; to be asked before anything listens.

    Parameters
    ----------
    host
        Address or name to listen on.
    certificate, private_key
        PEM files.
    live_keys
        API keys that open something.
    behind_proxy
        The operator says that a proxy in front of the address speaks TLS, and that nobody else can reach it.
    names
        Further names by which clients know the service, beside those in the certificate.

    Raises
    ------
    ServiceError
        If others could reach the service, and TLS or a key is missing; if the files do not belong together.
    """
    loopback = check_address(host, certificate=certificate, private_key=private_key, behind_proxy=behind_proxy)
    if not loopback and live_keys < 1:
        raise ServiceError(
            f"{host} can be reached from other machines, and there is no key yet to tell who asks",
            remedy="start once on 127.0.0.1, which makes an admin's key",
        )
    hosts = set(names)
    if certificate is not None:
        hosts |= _names_in(certificate)
    if not _is_any(host):
        hosts.add(host)
    elif not hosts:
        hosts |= _own_names()
    return Binding(host, loopback, frozenset(hosts), certificate, private_key)


def check_address(
    host: str, *, certificate: Path | None = None, private_key: Path | None = None, behind_proxy: bool = False
) -> bool:
    """Whether ``host`` is this machine alone; the part of `check_binding` that needs no registry, and its errors."""
    if (certificate is None) != (private_key is None):
        raise ServiceError(
            "a certificate and its private key go together", remedy="give both: --tls-cert and --tls-key"
        )
    loopback = _is_loopback(host)
    if not loopback and certificate is None and not behind_proxy:
        raise ServiceError(
            f"{host} can be reached from other machines, and without TLS keys and orders could be read on the way",
            remedy="give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that speaks TLS",
        )
    if certificate is not None and private_key is not None:
        tls_context(certificate, private_key)
    return loopback


def tls_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Server side of TLS 1.2 and newer.

    Raises
    ------
    ServiceError
        If a file cannot be read, the key is not the certificate's, or others can read the key.
    """
    try:
        if os.name == "posix" and stat.S_IMODE(private_key.stat().st_mode) & 0o007:
            raise ServiceError(f"everybody on this machine can read {private_key}", remedy=f"chmod o= {private_key}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password to try, an encrypted key is an error instead of a question on a terminal nobody watches.
        context.load_cert_chain(certificate, private_key, password="")
    except ssl.SSLError as error:
        raise ServiceError(
            f"{certificate} and {private_key} are no certificate with its key: {error.reason or error}",
            remedy="both in PEM form, the key without a password",
        ) from error
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"the certificate or its key cannot be read: {error}", remedy="look at --tls-cert and --tls-key"
        ) from error
    return context


def _names_in(certificate: Path) -> set[str]:
    """Names and addresses that a certificate is for; not those with a ``*``, which say nothing about this service."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        return addresses | {name for name in names.get_values_for_type(x509.DNSName) if "*" not in name}
    except (x509.ExtensionNotFound, ValueError):
        return set()


def _is_loopback(host: str) -> bool:
    """Whether every address behind ``host`` is this machine's own; ServiceError if there is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServiceError(f"there is no address {host!r} to listen on", remedy="127.0.0.1, or one of ours") from error
    return bool(found) and all(ip_address(str(one[4][0]).partition("%")[0]).is_loopback for one in found)


def _is_any(host: str) -> bool:
    """Whether it stands for all addresses of the machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return host == ""


def _own_names() -> set[str]:
    """What this machine calls itself, and the addresses behind it."""
    name = socket.gethostname()
    names = {name.lower(), socket.getfqdn().lower()}
    try:
        names |= {str(one[4][0]).partition("%")[0] for one in socket.getaddrinfo(name, None)}
    except OSError:
        return names
    return names
