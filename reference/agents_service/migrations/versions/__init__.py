"""One module a revision; `upgrade` registers it in schema_revisions."""
