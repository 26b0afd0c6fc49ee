"""What an operator may set about security: ``security.yaml`` in the service's folder, read at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from core.errors import ServiceError
from peerwatt.api.outside import OutsideConfig
from peerwatt.api.rate_limit import RATES, Rate


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """All of it.

    Parameters
    ----------
    names
        Names by which clients know the service; those in its certificate need not be repeated.
    rates
        Other rates than ``RATES``, by group.
    outside
        Issuers elsewhere whose tokens are taken.
    """

    names: tuple[str, ...] = ()
    rates: dict[str, Rate] = field(default_factory=dict)
    outside: tuple[OutsideConfig, ...] = ()


def read_settings(file: Path) -> SecuritySettings:
    """The settings in a file; the defaults if there is none.

    Raises
    ------
    ServiceError
        If it cannot be read, or says something unknown or unsafe.
    """
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return SecuritySettings()
    except OSError as error:
        raise ServiceError(f"{file} cannot be read: {error.strerror}") from error
    try:
        document = msgspec.yaml.decode(raw)
        settings = msgspec.convert(document, SecuritySettings)
        unknown = _unknown(document)
    except msgspec.MsgspecError as error:
        raise ServiceError(f"{file}: {error}", remedy="docs/security.md describes it") from error
    if unknown:
        raise ServiceError(f"{file}: {unknown} is unknown", remedy="docs/security.md describes it")
    return settings


def _unknown(document: object) -> str:
    """The first name in a document that means nothing; a mistyped setting must not be passed over in silence."""
    assert isinstance(document, dict)
    for name in document:
        if name not in SecuritySettings.__dataclass_fields__:
            return str(name)
    for group in document.get("rates", {}):
        if group not in RATES:
            return f"the group of requests {group!r}"
    for one in document.get("outside", ()):
        for name in one:
            if name not in OutsideConfig.__dataclass_fields__:
                return f"outside: {name}"
    return ""
