from tests.unit.release.conftest import registry, server  # noqa: F401 - fixtures
