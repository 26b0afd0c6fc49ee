"""TLS of the emulator, with certificates on both sides, and certificates to try it with."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DeviceError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_VALID = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS port.

    Parameters
    ----------
    certificate, key
        Of the server.
    client_ca
        Who signs the certificates of clients; clients without one are turned away.
    expired
        A certificate for the same key whose time is over, for the fault ``tls-expired``; None: no such fault.
    """

    certificate: Path
    key: Path
    client_ca: Path
    expired: Path | None = None


@dataclass(frozen=True, slots=True)
class TrialCertificates:
    """What `make_certificates` wrote: the server's files and those of a client."""

    server: TlsFiles
    ca: Path
    client_certificate: Path
    client_key: Path


def server_context(files: TlsFiles, *, expired: bool = False) -> ssl.SSLContext:
    """The context of a port (TLS 1.2 or later, mutual); raises DeviceError (local) when a file is missing or wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    certificate = files.expired if expired and files.expired is not None else files.certificate
    try:
        context.load_cert_chain(certificate, files.key)
        context.load_verify_locations(files.client_ca)
    except OSError as error:  # ssl.SSLError is one
        raise DeviceError(
            f"certificates of the emulator's TLS port cannot be used: {error}",
            local=True,
            remedy=f"check {certificate}, {files.key} and {files.client_ca}",
        ) from error
    return context


def make_certificates(folder: Path, now: datetime, *, host: str = "127.0.0.1") -> TrialCertificates:
    """Make a CA, a server's, an expired server's and a client's certificate in ``folder``, valid a year from ``now``.

    For trials only: the CA's key is thrown away, the others are not encrypted. ``host`` is an IP address or a name.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(parents=True, exist_ok=True)
    ca_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    begin = now - timedelta(hours=1)
    ca = _certificate("peerwatt trial CA", ca_key, None, ca_key, begin, now + _VALID)
    expired = _certificate(host, server_key, ca, ca_key, now - timedelta(days=30), now - timedelta(days=1))
    paths = {
        "ca.pem": _pem(ca),
        "server.pem": _pem(_certificate(host, server_key, ca, ca_key, begin, now + _VALID)),
        "server-expired.pem": _pem(expired),
        "server.key": _pem_key(server_key),
        "client.pem": _pem(_certificate("peerwatt trial client", client_key, ca, ca_key, begin, now + _VALID)),
        "client.key": _pem_key(client_key),
    }
    for name, data in paths.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
    server = TlsFiles(
        folder / "server.pem", folder / "server.key", folder / "ca.pem", expired=folder / "server-expired.pem"
    )
    return TrialCertificates(server, folder / "ca.pem", folder / "client.pem", folder / "client.key")


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    """A certificate; without ``issuer`` a CA's, signed by itself."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    elif " " not in name:
        try:
            entry: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            entry = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([entry, x509.DNSName("localhost")]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
