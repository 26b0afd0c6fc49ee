"""Checks of the MQTT broker: does it take us, is the connection encrypted, does it keep strangers out."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ServiceError
from peerwatt.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from hardware.mqtt import BrokerSettings

PATIENCE_S = 5.0
_CHECK = "MQTT broker"


async def check_broker(url: str, *, password: str | None = None, ca: Path | None = None) -> Finding:
    """Whether a broker takes us under our name and password, and nobody without them.

    Parameters
    ----------
    url
        ``mqtt://user@host:1883`` or, encrypted, ``mqtts://user@host:8883``.
    password
        Of the user; it may stand in the address too.
    ca
        PEM file with the authority of the broker's certificate; None: the system's.
    """
    from hardware.mqtt import BrokerSettings, TlsFiles

    try:
        settings = BrokerSettings.from_url(url, password=password, tls=None if ca is None else TlsFiles(ca), plain=True)
    except ServiceError as error:
        return fail(_CHECK, error.message, error.remedy or "write mqtt://HOST:PORT or mqtts://HOST:PORT")
    problem = await _problem(settings)
    if problem is not None:
        return fail(_CHECK, f"{settings.url}: {problem[0]}", problem[1])
    if settings.tls is None and not settings.loopback:
        sentence = f"{settings.url} takes us, but passwords and orders travel in the clear"
        return warn(_CHECK, sentence, "let the broker listen with TLS and write mqtts://")
    if settings.user is None or await _problem(replace(settings, user=None, password=None)) is None:
        sentence = f"{settings.url} takes anybody, without a name"
        return warn(_CHECK, sentence, "set allow_anonymous false, give clients names, and an ACL: peerwatt mqtt acl")
    return ok(_CHECK, f"{settings.url} takes us{' over TLS' if settings.tls else ''}, and nobody without a name")


async def _problem(settings: BrokerSettings) -> tuple[str, str] | None:
    """Connect and leave again; what went wrong and what to do, or None."""
    from hardware.mqtt.connection import Connection, MqttError

    name = f"peerwatt-doctor-{os.getpid()}"
    ours = replace(settings, client_id=name, session_expiry_s=0, timeout_s=PATIENCE_S)
    try:
        connection = Connection(ours, None, lambda message, receipt: None)
        await connection.open()
    except (MqttError, OSError, ValueError, ServiceError) as error:
        reason = str(error) or type(error).__name__
        cause = error.__cause__ or error
        if isinstance(cause, ssl.SSLError) or "certificate" in reason.lower() or "ssl" in reason.lower():
            return (
                f"the encrypted connection fails ({reason})",
                "check that it speaks TLS; SSL_CERT_FILE=its-authority.pem",
            )
        if any(word in reason.lower() for word in ("not authori", "bad user", "password")):
            return f"refuses our name or password ({reason})", "check them in the address and in the broker's file"
        return f"cannot be reached ({reason})", "start the broker, or check its address; without one HTTP works alone"
    await connection.close()
    return None
