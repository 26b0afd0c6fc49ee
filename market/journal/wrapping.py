"""What a vault's contents look like on the disk: as they are, or wrapped under a master key that is kept elsewhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.errors import JournalError
from market.journal.vault import KEY_BYTES, NONCE_BYTES, Entry, cipher

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "PEERWATT_VAULT_KEY"
"""Environment variable with the master key: 32 bytes in base64."""

_CHECK = b"peerwatt vault 1"


def master_key(environment: Mapping[str, str] | None = None) -> bytes | None:
    """The master key from the environment; None if there is none, JournalError if it is not one."""
    text = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not text:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise JournalError(
            f"{VARIABLE} is not a key: it has to be 32 bytes in base64",
            remedy='make one with `python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"`',
        )
    return key


class Wrapping:
    """Turns contents into what is stored, and back.

    Parameters
    ----------
    master
        The master key, or None for contents as they are.
    place
        The vault, for error messages.
    """

    def __init__(self, master: bytes | None, place: str) -> None:
        self._cipher: AESGCM | None = None if master is None else cipher(master)
        self._place = place

    def wrap(self, name: str, plain: bytes) -> bytes:
        """``plain`` as it is stored under ``name``."""
        if self._cipher is None:
            return plain
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def unwrap(self, name: str, stored: bytes) -> bytes:
        """The content that is stored under ``name``; JournalError if it does not open."""
        if self._cipher is None:
            return stored
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise JournalError(
                f"its {name} does not open with the master key",
                journal=self._place,
                remedy="the vault is damaged: restore its backup",
            ) from error

    def wrap_entry(self, entry: Entry) -> bytes:
        """A person as it is stored."""
        return self.wrap(f"member {entry.member}", entry.key + entry.participant_id.encode())

    def unwrap_entry(self, member: int, stored: bytes) -> Entry:
        """A stored person."""
        plain = self.unwrap(f"member {member}", stored)
        try:
            participant_id = plain[KEY_BYTES:].decode()
        except UnicodeDecodeError:
            participant_id = ""
        if not participant_id:
            raise JournalError(
                f"what it holds of member {member} is damaged", journal=self._place, remedy="restore the vault's backup"
            )
        return Entry(member, participant_id, plain[:KEY_BYTES])

    def check_value(self) -> bytes:
        """Stored beside the contents: tells whether they are wrapped, and whether the master key is the right one."""
        return self.wrap("check", _CHECK)

    def is_right(self, check: bytes) -> bool:
        """Whether ``check`` was made by this wrapping. False: the contents are not wrapped yet, and have to be.

        Raises
        ------
        JournalError
            The contents are wrapped, and this has no master key or another one.
        """
        if check == _CHECK:
            return self._cipher is None
        if self._cipher is None:
            raise JournalError(
                "its keys are wrapped under a master key, and none is given",
                journal=self._place,
                remedy=f"set {VARIABLE} to the master key it was written with",
            )
        try:
            self.unwrap("check", check)
        except JournalError as error:
            raise JournalError(
                "its keys are wrapped under another master key",
                journal=self._place,
                remedy=f"set {VARIABLE} to the master key it was written with",
            ) from error
        return True
