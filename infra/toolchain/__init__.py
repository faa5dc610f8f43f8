"""Finds or builds what the project runs on: tools, virtual environment, Docker Engine, builder, base image.

`venv`, `locks`, `environment` and `__main__` use the standard library only: they run before the virtual
environment exists.
"""
