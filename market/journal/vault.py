"""Keys of persons: what seals the personal parts of records, and whose destruction erases a person.

A vault holds one AES-256 key and one participant id per member, and one key for snapshots. The keys are in memory while
a vault is open, so that sealing does not wait for a disk; the back ends keep them in files or tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core.errors import JournalError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
_TAG_BYTES = 16
_SNAPSHOT = b"peerwatt snapshot 1"
_STAMP_BYTES = 8


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """A person in a vault; never printed."""

    member: int
    participant_id: str
    key: bytes


class Vault(Protocol):
    """The keys of a journal's persons, and who they are."""

    def seal(self, member: int, kind: str, plain: bytes) -> bytes:
        """Encrypt a part of a record of ``kind``; KeyError if the member has no key."""

    def open(self, member: int, kind: str, sealed: bytes) -> bytes | None:
        """Decrypt a part; None if the person is erased (or was never there); JournalError if it is damaged."""

    async def add(self, member: int, participant_id: str) -> None:
        """Make a key for a new member; durable when this returns. JournalError for a number or id in use or erased."""

    async def add_many(self, people: Sequence[tuple[int, str]]) -> None:
        """Add several members (number, id) with one wait for the disk: all of them, or none."""

    async def load(self, entries: Sequence[Entry], erased: Iterable[int]) -> None:
        """Take over persons with their keys, and numbers that were erased: for restoring backups."""

    def entries(self) -> list[Entry]:
        """Every person with its key, by rising member number: for backups only."""

    def erased(self) -> list[int]:
        """Members whose keys were destroyed, rising."""

    async def erase(self, member: int) -> None:
        """Destroy a member's key and id, in all files; nothing happens if that is done already."""

    def member_of(self, participant_id: str) -> int | None:
        """The member's number, or None."""

    def participant_of(self, member: int) -> str | None:
        """The member's id, or None if there is none (any more)."""

    def members(self) -> list[int]:
        """Members with a key, rising."""

    def seal_snapshot(self, plain: bytes) -> bytes:
        """Encrypt a snapshot under the snapshot key."""

    def open_snapshot(self, sealed: bytes) -> bytes | None:
        """Decrypt a snapshot; None if its key was destroyed, or it is damaged: snapshots can be made again."""

    async def rotate_snapshot_key(self) -> None:
        """Destroy the snapshot key and make another; what it sealed is gone."""

    async def close(self) -> None:
        """Let go of the store."""


def cipher(key: bytes) -> AESGCM:
    """AES-256-GCM under ``key``."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _associated(member: int, kind: str) -> bytes:
    return member.to_bytes(8, "big") + kind.encode()


class Keyring:
    """The part of a vault that is in memory; back ends derive from it and keep what it holds.

    Parameters
    ----------
    place
        File or address for error messages.
    entries
        Persons.
    erased
        Members whose keys were destroyed: their numbers are never given a key again.
    snapshot_key
        Key of snapshots.
    """

    def __init__(self, place: str, entries: Iterable[Entry], erased: Iterable[int], snapshot_key: bytes) -> None:
        self.place = place
        self._entries: dict[int, Entry] = {}
        self._ciphers: dict[int, AESGCM] = {}
        self._numbers: dict[str, int] = {}
        self._erased = set(erased)
        self._snapshot_key = snapshot_key
        for entry in entries:
            self._put(entry)

    # --- sealing ------------------------------------------------------------------------------------------------------

    def seal(self, member: int, kind: str, plain: bytes) -> bytes:
        """See `Vault`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[member].encrypt(nonce, plain, member.to_bytes(8, "big") + kind.encode())

    def open(self, member: int, kind: str, sealed: bytes) -> bytes | None:
        """See `Vault`."""
        from cryptography.exceptions import InvalidTag

        found = self._ciphers.get(member)
        if found is None:
            return None
        try:
            if len(sealed) < NONCE_BYTES + _TAG_BYTES:
                raise InvalidTag
            return found.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(member, kind))
        except InvalidTag as error:
            raise JournalError(
                f"the personal part of member {member} in a record {kind!r} does not open with its key",
                journal=self.place,
                remedy="verify the journal; if it is sound, the vault is not the one it was written with",
            ) from error

    def seal_snapshot(self, plain: bytes) -> bytes:
        """See `Vault`."""
        nonce = os.urandom(NONCE_BYTES)
        return self._stamp() + nonce + cipher(self._snapshot_key).encrypt(nonce, plain, _SNAPSHOT)

    def open_snapshot(self, sealed: bytes) -> bytes | None:
        """See `Vault`."""
        from cryptography.exceptions import InvalidTag

        start = _STAMP_BYTES + NONCE_BYTES
        if sealed[:_STAMP_BYTES] != self._stamp() or len(sealed) < start + _TAG_BYTES:
            return None
        try:
            return cipher(self._snapshot_key).decrypt(sealed[_STAMP_BYTES:start], sealed[start:], _SNAPSHOT)
        except InvalidTag:
            return None

    def _stamp(self) -> bytes:
        """Tells snapshots of this key from those of others without trying."""
        import hashlib

        return hashlib.sha256(_SNAPSHOT + self._snapshot_key).digest()[:_STAMP_BYTES]

    # --- the directory ------------------------------------------------------------------------------------------------

    def member_of(self, participant_id: str) -> int | None:
        """See `Vault`."""
        return self._numbers.get(participant_id)

    def participant_of(self, member: int) -> str | None:
        """See `Vault`."""
        entry = self._entries.get(member)
        return None if entry is None else entry.participant_id

    def members(self) -> list[int]:
        """See `Vault`."""
        return sorted(self._entries)

    def entries(self) -> list[Entry]:
        """See `Vault`."""
        return [self._entries[member] for member in sorted(self._entries)]

    def erased(self) -> list[int]:
        """See `Vault`."""
        return sorted(self._erased)

    # --- for the back ends --------------------------------------------------------------------------------------------

    def _new_entry(self, member: int, participant_id: str) -> Entry:
        self._check_free(member, participant_id)
        return Entry(member, participant_id, os.urandom(KEY_BYTES))

    def _check_free(self, member: int, participant_id: str) -> None:
        if member < 0 or not participant_id:
            raise JournalError("a member needs a number from 0 and an id", journal=self.place)
        if member in self._entries or member in self._erased:
            raise JournalError(
                f"member number {member} is in use or was erased", journal=self.place, remedy="give it the next number"
            )
        if participant_id in self._numbers:
            raise JournalError(
                f"a participant {participant_id!r} is there already", journal=self.place, remedy="choose another id"
            )

    def _check_new(self, entries: Iterable[Entry]) -> None:
        seen: set[str] = set()
        for entry in entries:
            self._check_free(entry.member, entry.participant_id)
            if entry.participant_id in seen:
                raise JournalError(f"two participants {entry.participant_id!r}", journal=self.place)
            seen.add(entry.participant_id)

    def _take_over(self, entries: Iterable[Entry], erased: Iterable[int]) -> None:
        for entry in entries:
            self._put(entry)
        self._erased.update(erased)

    def _put(self, entry: Entry) -> None:
        self._entries[entry.member] = entry
        self._ciphers[entry.member] = cipher(entry.key)
        self._numbers[entry.participant_id] = entry.member

    def _forget(self, member: int) -> None:
        self._erased.add(member)
        entry = self._entries.pop(member, None)
        if entry is not None:
            del self._ciphers[member]
            del self._numbers[entry.participant_id]

    def _forget_all(self) -> None:
        """After closing nothing opens any more."""
        self._entries.clear()
        self._ciphers.clear()
        self._numbers.clear()


def new_key() -> bytes:
    """256 random bits."""
    return os.urandom(KEY_BYTES)


def no_vault(place: str | Path) -> JournalError:
    """The vault of a journal is not there. Going on with an empty one would count everybody as erased."""
    return JournalError(
        "there is no vault beside the journal",
        journal=place,
        remedy="restore the vault's backup; if it is lost for good, restore an empty one: everybody is then erased",
    )
