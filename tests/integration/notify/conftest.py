from tests.unit.notify.conftest import deliverer, double, outbox, store, write  # noqa: F401 - fixtures
