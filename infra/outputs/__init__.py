"""Outputs of a stack: what the program exports, and inventory and procedures read (docs/architecture.md)."""
