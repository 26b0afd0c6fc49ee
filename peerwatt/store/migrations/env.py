"""What Alembic runs: the revisions, on the connection it is given."""

from __future__ import annotations

from alembic import context

from peerwatt.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
