"""Rotation of secrets: who issues them, and how an old value is replaced by a new one."""
