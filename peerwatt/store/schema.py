"""The tables, as SQLAlchemy models. Changes need a migration in ``migrations/versions``; a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, MetaData, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

ID_LENGTH = 200
TEXT_LENGTH = 200
KEY_ID_LENGTH = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Counted numbers: SQLite counts rows up by itself in a column of type INTEGER only.
_COUNTED = BigInteger().with_variant(Integer(), "sqlite")


class Moment(TypeDecorator[datetime]):
    """An aware time, kept as microseconds since 1970 UTC: the same on every database, without time zones."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To microseconds; ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no time zone")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Back to an aware time, UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class Base(DeclarativeBase):
    """Base of all tables; constraints have names, so that a migration can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ClientRow(Base):
    """A client; ``secret_hash`` of its OAuth secret."""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    role: Mapped[str] = mapped_column(String(32))
    display_name: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    everybody: Mapped[bool] = mapped_column(Boolean)
    created: Mapped[datetime] = mapped_column(Moment)
    revoked: Mapped[datetime | None] = mapped_column(Moment)
    secret_hash: Mapped[str | None] = mapped_column(String(TEXT_LENGTH))
    version: Mapped[int] = mapped_column(Integer, server_default="1")


class ActsForRow(Base):
    """A participant a client acts for."""

    __tablename__ = "acts_for"

    client: Mapped[str] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    participant: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, index=True)


class KeyRow(Base):
    """An API key; ``digest`` is SHA-256 of its whole text."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(KEY_ID_LENGTH), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(32))
    label: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    created: Mapped[datetime] = mapped_column(Moment)
    expires: Mapped[datetime | None] = mapped_column(Moment)
    last_used: Mapped[datetime | None] = mapped_column(Moment)
    revoked: Mapped[datetime | None] = mapped_column(Moment)


class OfferRow(Base):
    """A standing contract offered by one participant to another."""

    __tablename__ = "offers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    by: Mapped[str] = mapped_column(String(ID_LENGTH), index=True)
    to: Mapped[str] = mapped_column(String(ID_LENGTH), index=True)
    terms: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime] = mapped_column(Moment)
    expires: Mapped[datetime] = mapped_column(Moment)
    contract: Mapped[int | None] = mapped_column(BigInteger)


class AccessRow(Base):
    """Who looked at whose personal data."""

    __tablename__ = "access_log"
    __table_args__ = (Index("ix_access_log_participant_id", "participant", "id"),)

    id: Mapped[int] = mapped_column(_COUNTED, primary_key=True, autoincrement=True)
    client: Mapped[str] = mapped_column(String(ID_LENGTH), index=True)
    role: Mapped[str] = mapped_column(String(32))
    participant: Mapped[str] = mapped_column(String(ID_LENGTH))
    action: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    status: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(Moment, index=True)


class SettingRow(Base):
    """A value with its version."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    version: Mapped[int] = mapped_column(Integer)
    changed: Mapped[datetime] = mapped_column(Moment)
    changed_by: Mapped[str] = mapped_column(String(ID_LENGTH))
