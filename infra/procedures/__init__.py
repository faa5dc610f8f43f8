"""What procedures have in common: the lease, the verdict, the summary; and one module a procedure, pure."""
