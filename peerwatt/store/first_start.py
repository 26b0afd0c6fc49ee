"""The first admin's key: made when nobody could log in otherwise, told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from peerwatt.store import secrets
from peerwatt.store.records import RegistryError
from peerwatt.store.registry import Registry

ADMIN = "admin"
KEY_FILE = "admin.key"


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The key's text, to be printed once, and the private file that also holds it."""

    text: str
    file: Path


async def first_admin_key(registry: Registry, data: Path, now: Callable[[], datetime]) -> FirstKey | None:
    """Make the admin's key if no live admin has one that holds; None if there is one.

    The file ``data/admin.key`` (mode 0600) is on the disk before the key counts: a crash in between leaves a key that
    opens nothing, and the next start makes another.
    """
    found, _ = await registry.clients.identities()
    for identity in found:
        if identity.client.role == ADMIN and any(key.expires is None or key.expires > now() for key in identity.keys):
            return None
    made = secrets.make_key()
    file = data / KEY_FILE
    secrets.write_private(file, made.text.encode() + b"\n")
    name = await _live_admin(registry)
    await registry.clients.add_key(name, label="first start", text=made)
    return FirstKey(made.text, file)


async def _live_admin(registry: Registry) -> str:
    """Id of an admin that is not revoked, made if there is none."""
    for client in await registry.clients.find():
        if client.role == ADMIN and client.revoked is None:
            return client.id
    for number in range(1, 1000):
        name = ADMIN if number == 1 else f"{ADMIN}-{number}"
        try:
            return (await registry.clients.add(name, ADMIN, display_name="Administrator")).id
        except RegistryError as error:
            if error.reason != "exists":
                raise
    raise RegistryError("too_many", "there are a thousand revoked admins", remedy="make one by hand")
