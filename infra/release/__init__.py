"""Releases: what may run, where its image is, and what it asks of the database (IMG-4, DEP-4)."""
