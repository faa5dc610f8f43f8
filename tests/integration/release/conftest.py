from tests.unit.release.conftest import cosign, key, registry, server, verifier  # noqa: F401 - fixtures
