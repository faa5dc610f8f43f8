from tests.unit.reference_service.conftest import (  # noqa: F401 - fixtures
    _keys,
    environment,
    logging_restored,
    login,
    service,
    start,
    store,
    vendors,
)
