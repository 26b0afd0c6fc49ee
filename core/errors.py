"""Every error peerwatt raises on purpose: one base class, one subclass per place a user can act on."""

from __future__ import annotations

from pathlib import Path


class PeerwattError(Exception):
    """Base of all errors raised on purpose. ``remedy`` says what to do about it."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(message)

    def place(self) -> str:
        """Where it happened (file and line, slot and element ...); empty when there is no place."""
        return ""

    def __str__(self) -> str:
        parts = [f"{place}: {self.message}" if (place := self.place()) else self.message]
        if self.remedy:
            parts.append(f"what to do: {self.remedy}")
        return "\n  ".join(parts)


class ScenarioError(PeerwattError):
    """A scenario or one of the files it names is wrong.

    Parameters
    ----------
    message
        The reason, in words of the scenario.
    file
        The file that has to be mended.
    path
        Where in it, as a YAML path (``buildings[3].assets[0].peak_kw``) or a column name.
    line
        Line number in ``file``, from 1.
    remedy
        What the user should do.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        path: str | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.file = None if file is None else str(file)
        self.path = path
        self.line = line
        super().__init__(message, remedy=remedy)

    def place(self) -> str:
        """``file:line: path``, leaving out what is unknown."""
        head = self.file or ""
        if self.line is not None:
            head += f":{self.line}"
        return ": ".join(part for part in (head, self.path or "") if part)


class MarketError(PeerwattError):
    """A rule, a book or a settlement is not applicable or breaks one of its laws."""


class GridError(PeerwattError):
    """A network or its physics is wrong; says in which slot and at which element."""

    def __init__(
        self,
        message: str,
        *,
        slot: int | None = None,
        element: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.slot = slot
        self.element = element
        super().__init__(message, remedy=remedy)

    def place(self) -> str:
        """``slot 17, line 4``, leaving out what is unknown."""
        slot = None if self.slot is None else f"slot {self.slot}"
        return ", ".join(part for part in (slot, self.element) if part)


class DeviceError(PeerwattError):
    """A device did not do what it was told (``remote``) or was told nonsense by us (``local``)."""

    def __init__(self, message: str, *, local: bool, remedy: str | None = None) -> None:
        self.local = local
        super().__init__(message, remedy=remedy)


class RunError(PeerwattError):
    """A run folder is missing something, was changed, or cannot be resumed."""


class JournalError(PeerwattError):
    """A journal or its vault is damaged, held by somebody else, or cannot be written; says at which record.

    Parameters
    ----------
    message
        The reason.
    journal
        Its file or address, without passwords.
    seq
        The record it is about.
    remedy
        What the user should do.
    """

    def __init__(
        self, message: str, *, journal: str | Path | None = None, seq: int | None = None, remedy: str | None = None
    ) -> None:
        self.journal = None if journal is None else str(journal)
        self.seq = seq
        super().__init__(message, remedy=remedy)

    def place(self) -> str:
        """``FILE: record 17``, leaving out what is unknown."""
        record = None if self.seq is None else f"record {self.seq}"
        return ": ".join(part for part in (self.journal, record) if part)


class ServiceError(PeerwattError):
    """A live service cannot start or go on: an address, a broker, a database or a setting is wrong."""
