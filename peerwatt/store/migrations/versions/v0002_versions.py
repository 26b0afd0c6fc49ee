"""Versions: of clients, and of settings; the access log also says the role and the answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; rows that are there get the first version, no role and status 0."""
    with op.batch_alter_table("clients") as clients:
        clients.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("access_log") as log:
        log.add_column(sa.Column("role", sa.String(32), nullable=False, server_default=""))
        log.add_column(sa.Column("status", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("access_log") as log:
        log.alter_column("role", existing_type=sa.String(32), existing_nullable=False, server_default=None)
        log.alter_column("status", existing_type=sa.Integer(), existing_nullable=False, server_default=None)
    settings = op.create_table(
        "settings",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
    )
    # Its version counts changes to clients and keys: there from the start, so that counting is one update.
    op.bulk_insert(settings, [{"name": "identities", "value": None, "version": 0, "changed": 0, "changed_by": ""}])


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("settings")
    with op.batch_alter_table("access_log") as log:
        log.drop_column("status")
        log.drop_column("role")
    with op.batch_alter_table("clients") as clients:
        clients.drop_column("version")
