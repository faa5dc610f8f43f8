from tests.unit.ansible.conftest import project, raw_outputs  # noqa: F401 - fixtures
