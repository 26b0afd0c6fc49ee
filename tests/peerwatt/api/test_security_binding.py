"""Where the service may listen, over real sockets; and the documentation under its own content security policy."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.errors import ServiceError
from peerwatt.api.binding import check_binding
from peerwatt.api.security import Security
from tests.peerwatt.store.places import HandClock, clock

__all__ = ["clock"]


def _certificate(folder: Path, *, name: str = "a", password: bytes | None = None) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    at = datetime(2020, 1, 1, tzinfo=UTC)
    names = [x509.DNSName(known) for known in ("localhost", "peerwatt.test", "*.test")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(at)
        .not_valid_after(at + timedelta(days=36_500))
        .add_extension(
            x509.SubjectAlternativeName(names),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    for file in files:
        file.chmod(0o600)
    return files


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_may_listen_to_itself(host: str) -> None:
    binding = check_binding(host, live_keys=0)
    assert binding.loopback and binding.host == host
    assert binding.uvicorn() == {"host": host, "server_header": False}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_beyond_it_tls_and_a_key_are_needed(tmp_path: Path, host: str) -> None:
    certificate, key = _certificate(tmp_path)
    with pytest.raises(ServiceError, match="without TLS") as raised:
        check_binding(host, live_keys=5)
    assert "--tls-cert" in str(raised.value.remedy)
    with pytest.raises(ServiceError, match="no key yet"):
        check_binding(host, certificate=certificate, private_key=key, live_keys=0)
    with pytest.raises(ServiceError, match="no key yet"):
        check_binding(host, live_keys=0, behind_proxy=True)
    assert not check_binding(host, live_keys=1, behind_proxy=True).loopback
    binding = check_binding(host, certificate=certificate, private_key=key, live_keys=1, names=("peerwatt.example",))
    assert not binding.loopback and "peerwatt.example" in binding.hosts
    assert ("0.0.0.0" in binding.hosts) is False
    context = binding.uvicorn()["ssl_context_factory"](None, None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_all_addresses_go_by_the_machines_own_names(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    assert socket.gethostname().lower() in check_binding("0.0.0.0", live_keys=1, behind_proxy=True).hosts
    binding = check_binding("0.0.0.0", certificate=certificate, private_key=key, live_keys=1)
    assert binding.hosts == {"localhost", "peerwatt.test"}, "what its certificate is for"


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    other, _ = _certificate(tmp_path, name="b")
    locked, locked_key = _certificate(tmp_path, name="c", password=b"x")
    for files, says in (
        ((other, key), "no certificate with its key"),
        ((certificate, certificate), "no certificate with its key"),
        ((locked, locked_key), "no certificate with its key"),
        ((certificate, None), "go together"),
        ((None, key), "go together"),
        ((tmp_path / "none", key), "cannot be read"),
        ((certificate, tmp_path / "none"), "cannot be read"),
    ):
        with pytest.raises(ServiceError, match=says):
            check_binding("0.0.0.0", certificate=files[0], private_key=files[1], live_keys=1)
    key.chmod(0o644)
    with pytest.raises(ServiceError, match="everybody on this machine can read"):
        check_binding("127.0.0.1", certificate=certificate, private_key=key, live_keys=1)
    with pytest.raises(ServiceError, match="no address"):
        check_binding("no-such-host.invalid", live_keys=1)


class _Server:
    """The small documented app on a real socket."""

    def __init__(self, app: Any, **settings: Any) -> None:
        import uvicorn

        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        arguments = {**settings, "log_level": "warning", "lifespan": "off"}
        self._server = uvicorn.Server(uvicorn.Config(app, **arguments))
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]

    async def __aenter__(self) -> _Server:
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            assert not self._task.done(), self._task.result()
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task
        self._socket.close()


async def test_over_tls_and_by_a_real_server(tmp_path: Path, clock: HandClock) -> None:
    from tests.peerwatt.api.security_app import make_app, shielded

    certificate, key = _certificate(tmp_path)
    security = await Security.open(tmp_path / "data", clock)
    binding = check_binding("127.0.0.1", certificate=certificate, private_key=key, live_keys=1)
    assert binding.hosts == {"127.0.0.1", "localhost", "peerwatt.test"}
    app = shielded(make_app(security), security, *binding.hosts)
    trust = ssl.create_default_context(cafile=str(certificate))
    settings = {name: value for name, value in binding.uvicorn().items() if name != "host"}
    async with (
        _Server(app, **settings) as server,
        httpx.AsyncClient(base_url=f"https://localhost:{server.port}", verify=trust, trust_env=False) as http,
    ):
        answer = await http.get("/api/v1/list")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert "server" not in answer.headers

        async def chunks() -> Any:
            for _ in range(200):
                yield b"x" * 1000

        answer = await http.post("/api/v1/upload", content=chunks())
        assert answer.status_code == 413 and answer.json()["code"] == "body_too_large"
        assert (await http.get("/api/v1/list")).status_code == 200, "and the next request is none the worse"
    await security.close()


@pytest.mark.browser
@pytest.mark.parametrize(("path", "shows"), [("/docs", "swagger-ui"), ("/redoc", "redoc")])
async def test_the_documentation_works_under_its_policy(
    tmp_path: Path, clock: HandClock, path: str, shows: str
) -> None:
    from fastapi_offline import FastAPIOffline

    from tests.peerwatt.api.security_app import shielded

    security = await Security.open(tmp_path / "data", clock)
    app = FastAPIOffline(title="peerwatt under test")

    @app.get("/api/v1/lamp-post-17", tags=["things"])
    async def lamp() -> dict[str, int]:
        return {}

    async with _Server(shielded(app, security)) as server:
        async with httpx.AsyncClient(trust_env=False) as http:
            policy = (await http.get(f"http://127.0.0.1:{server.port}{path}")).headers["content-security-policy"]
        assert "script-src 'self'" in policy and "http" not in policy
        command = [
            next(name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)),
            "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=20000",
            "--enable-logging=stderr", "--dump-dom", f"http://127.0.0.1:{server.port}{path}",
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
        )
    await security.close()
    assert shows in done.stdout
    assert "lamp-post-17" in done.stdout, "the page has drawn what the document says"
    blocked = [
        line for line in done.stderr.splitlines() if "Content Security Policy" in line and "redoc.ly" not in line
    ]
    assert not blocked
