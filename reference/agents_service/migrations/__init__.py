"""Alembic migrations (DEP-4): expand first, contract a release later, each said by the revision's `kind`."""
