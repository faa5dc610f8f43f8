"""Alembic migrations (DEP-4): expand only; a contract step comes a release later."""
