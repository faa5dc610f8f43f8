"""Checks of a running environment from outside, as its users reach it: one line a check (DEP-1)."""
