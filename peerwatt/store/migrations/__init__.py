"""How the registry's tables came about: Alembic's revisions, run when a registry is opened."""
