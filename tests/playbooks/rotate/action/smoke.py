"""Test only: all is well."""

from tests.playbooks.rotate.simulated import AllIsWell as ActionModule

__all__ = ["ActionModule"]
