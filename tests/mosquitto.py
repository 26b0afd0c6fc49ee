"""A real Mosquitto for tests: on free ports, in a folder of its own, which can be killed, frozen and started again."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Debian keeps the broker where only root's PATH leads.
PLACES = [str(Path(folder).parent / "sbin") for folder in os.get_exec_path()]


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PLACES))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def need_mosquitto() -> None:
    """Skip the test, saying why, where there is no Mosquitto."""
    for name in ("mosquitto", "mosquitto_passwd"):
        if _program(name) is None:
            pytest.skip(f"{name} is not installed on this machine (Debian: apt install mosquitto)")


@dataclass
class Mosquitto:
    """A broker: no anonymous clients, a password file, an ACL file if given, persistence, TLS beside if given."""

    folder: Path
    users: Mapping[str, str]
    acl: str | None = None
    tls: TestAuthority | None = None
    extra: str = ""
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        program = _program("mosquitto")
        assert program is not None
        if not (self.folder / "mosquitto.conf").exists():
            self._write()
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()
        return self

    def kill(self) -> None:
        """SIGKILL: nothing is written, no client is told."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: what is kept is written to disk."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Connections stay open, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def save(self) -> None:
        """Write what is kept to disk now."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        self.process.wait(10)
        self.process = None

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        passwords = self.folder / "passwords"
        passwords.touch(mode=0o600)
        program = _program("mosquitto_passwd")
        assert program is not None
        for user, password in self.users.items():
            subprocess.run([program, "-b", str(passwords), user, password], check=True, capture_output=True)
        lines = [
            *(["user root"] if os.geteuid() == 0 else []),
            "per_listener_settings false",
            "allow_anonymous false",
            "set_tcp_nodelay true",
            f"password_file {passwords}",
            "persistence true",
            f"persistence_location {self.folder}/",
            "log_dest stdout",
            "connection_messages true",
            self.extra,
            f"listener {self.port} 127.0.0.1",
        ]
        if self.acl is not None:
            (self.folder / "acl").write_text(self.acl)
            (self.folder / "acl").chmod(0o600)
            lines.insert(1, f"acl_file {self.folder / 'acl'}")
        if self.tls is not None:
            lines += [
                f"listener {self.tls_port} 127.0.0.1",
                f"cafile {self.tls.ca}",
                f"certfile {self.tls.certificate}",
                f"keyfile {self.tls.key}",
                f"require_certificate {'true' if self.tls.clients else 'false'}",
            ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def _wait(self) -> None:
        for _ in range(500):
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("mosquitto does not listen:\n" + self.log())


class TestAuthority:
    """A certificate authority, a broker certificate for 127.0.0.1 and a client certificate, as PEM files."""

    __test__ = False

    def __init__(self, folder: Path, *, clients: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.clients = clients
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "broker.pem", folder / "broker.key"
        self.client_certificate, self.client_key = folder / "client.pem", folder / "client.key"
        self._make()

    def _make(self) -> None:
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        now = dt.datetime.now(dt.UTC)

        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
            builder = (
                x509.CertificateBuilder()
                .subject_name(name(subject))
                .issuer_name(name("peerwatt test authority"))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(days=1))
                .not_valid_after(now + dt.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            )
            # What Python 3.13 asks of certificates beside a signature.
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
            ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            if ca:
                usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
                builder = builder.add_extension(usage, critical=True)
            else:
                address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
                builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            return builder.sign(authority, hashes.SHA256())

        def write(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
            file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            file.chmod(0o600)

        authority = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        self.ca.write_bytes(certificate("peerwatt test authority", authority, ca=True).public_bytes(pem))
        for file, key_file, subject in (
            (self.certificate, self.key, "127.0.0.1"),
            (self.client_certificate, self.client_key, "client"),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            write(key_file, key)
            file.write_bytes(certificate(subject, key).public_bytes(pem))


def broker(folder: Path, users: Mapping[str, str], **options: object) -> Iterator[Mosquitto]:
    """A started broker for a fixture: ``yield from broker(tmp_path, {"a": "secret"})``."""
    need_mosquitto()
    mosquitto = Mosquitto(folder, users, **options)  # type: ignore[arg-type]
    try:
        yield mosquitto.start()
    finally:
        mosquitto.kill()
