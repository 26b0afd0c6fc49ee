"""The first registry: clients, whom they act for, keys, offers, access log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _clients_and_keys()
    op.create_table(
        "offers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("to", sa.String(200), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_offers"),
    )
    op.create_index("ix_offers_by", "offers", ["by"])
    op.create_index("ix_offers_to", "offers", ["to"])
    op.create_table(
        "access_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("participant", sa.String(200), nullable=False),
        sa.Column("action", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_log"),
    )
    op.create_index("ix_access_log_participant_id", "access_log", ["participant", "id"])
    op.create_index("ix_access_log_client", "access_log", ["client"])
    op.create_index("ix_access_log_at", "access_log", ["at"])


def _clients_and_keys() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("everybody", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger()),
        sa.Column("secret_hash", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_clients"),
    )
    op.create_table(
        "acts_for",
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("participant", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_acts_for_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", "participant", name="pk_acts_for"),
    )
    op.create_index("ix_acts_for_participant", "acts_for", ["participant"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger()),
        sa.Column("last_used", sa.BigInteger()),
        sa.Column("revoked", sa.BigInteger()),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_keys_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
    )
    op.create_index("ix_keys_client", "keys", ["client"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("access_log", "offers", "keys", "acts_for", "clients"):
        op.drop_table(table)
