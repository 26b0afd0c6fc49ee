"""API keys and client secrets: how they are made, written, hashed and compared.

An API key is ``pw_<id>_<secret>``: the id names it, the secret is 256 random bits. So many bits need no slow hash:
SHA-256 is kept, and a check costs a microsecond. Secrets of OAuth clients, checked once per token, are kept as scrypt
(RFC 7914) with a setting that OWASP's password storage cheat sheet lists: N = 2**14, r = 8, p = 5, 16 MiB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from core.errors import ServiceError

KEY_MARK = "pw"
SECRET_BYTES = 32
SECRET_CHARS = 43
_KEY_ID_BYTES = 5  # eight characters of base 32
_KEY_CHARS = len(KEY_MARK) + 1 + 8 + 1 + SECRET_CHARS
_SHOWN = 4  # 24 of 256 bits, for a person to tell which key it is

_N, _R, _P = 2**14, 8, 5
_MOST_MEMORY = 2**26


@dataclass(frozen=True, slots=True)
class KeyText:
    """A fresh key: ``text`` for its owner, the rest for the registry."""

    text: str
    id: str
    prefix: str
    digest: bytes


def random_text() -> str:
    """256 random bits as 43 characters of base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()


def random_id() -> str:
    """40 random bits as eight letters and digits: a name, not a secret."""
    return base64.b32encode(secrets.token_bytes(_KEY_ID_BYTES)).decode().lower()


def make_key() -> KeyText:
    """A new API key."""
    name, secret = random_id(), random_text()
    text = f"{KEY_MARK}_{name}_{secret}"
    return KeyText(text, name, f"{KEY_MARK}_{name}_{secret[:_SHOWN]}", hashlib.sha256(text.encode()).digest())


def key_id_of(text: bytes) -> bytes | None:
    """The id in a key's text; None if it does not have the form of a key."""
    if len(text) != _KEY_CHARS:
        return None
    mark, _, rest = text.partition(b"_")
    name, _, secret = rest.partition(b"_")
    return name if mark == b"pw" and len(secret) == SECRET_CHARS else None


def hash_secret(secret: str) -> str:
    """The scrypt hash of a client secret: ``scrypt$N$r$p$salt$hash``. Takes a fifth of a second."""
    salt = secrets.token_bytes(16)
    parts = (_b64(salt), _b64(_scrypt(secret, salt, _N, _R, _P)))
    return "$".join(("scrypt", str(_N), str(_R), str(_P), *parts))


def secret_fits(secret: str, kept: str) -> bool:
    """Whether a secret has the hash ``kept``, compared in constant time. ServiceError if ``kept`` is no such hash."""
    try:
        name, n, r, p, salt, expected = kept.split("$")
        if name != "scrypt":
            raise ValueError(name)
        got = _scrypt(secret, base64.b64decode(salt, validate=True), int(n), int(r), int(p))
        return hmac.compare_digest(got, base64.b64decode(expected, validate=True))
    except (ValueError, binascii.Error) as error:
        raise ServiceError(
            "the registry holds a client secret in a form nobody can check", remedy="set a new secret for the client"
        ) from error


def _scrypt(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, durably and all at once, in place of an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def kept_secret(path: Path) -> bytes:
    """The 32 random bytes in a private file, made at first use.

    Raises
    ------
    ServiceError
        If others can read the file, or it holds something else.
    """
    if not path.exists():
        write_private(path, secrets.token_bytes(SECRET_BYTES))
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ServiceError(
            f"others can read the secret in {path}",
            remedy=f"delete it, so that a new one is made, or: chmod 600 {path}",
        )
    data = path.read_bytes()
    if len(data) != SECRET_BYTES:
        raise ServiceError(f"{path} does not hold a secret of {SECRET_BYTES} bytes", remedy="delete it")
    return data
