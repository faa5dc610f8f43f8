"""One module a revision: beside what Alembic wants, `kind` (expand or contract) and what it `ends`."""
