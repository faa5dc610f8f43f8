"""What the resources of the docker stand-in share: connections to the engine, and tables of what differs."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import docker
from docker.auth import resolve_repository_name
from docker.errors import APIError, DockerException, NotFound
from docker.utils import parse_repository_tag

from infra.providers.server import Failure, Properties, ProviderError

_ENGINE_TIMEOUT = 300
_REMOVAL_TIMEOUT = 30.0
_POLL = 0.2


def unsupported(property_: str, path: str = "") -> Failure:
    """Return the refusal of a property that only the official plugin knows how to serve."""
    advice = "is not supported by the stand-in for the docker plugin; install the official one"
    return Failure(path or property_, f"{property_} {advice}")


class Handler(ABC):
    """One resource type. The tables say what the SDK doesn't."""

    token: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}
    """What the official provider assumes where the program says nothing."""
    updatable: ClassVar[frozenset[str]] = frozenset()
    """Properties that change in place; every other one replaces the resource."""
    unordered: ClassVar[frozenset[str]] = frozenset()
    """Lists whose order means nothing."""
    observed: ClassVar[frozenset[str]] = frozenset()
    """Inputs that the engine fills in where the program says nothing."""
    unsupported: ClassVar[frozenset[str]] = frozenset()
    auto_name: ClassVar[bool] = True

    def check(self, inputs: Properties) -> Iterator[Failure]:
        """Yield what is wrong beyond shapes; inputs may hold unknown values."""
        yield from ()

    def keeps(self, state: Properties, news: Properties) -> bool:
        """Say if an update leaves alone what the engine decided, such as addresses."""
        return True

    @abstractmethod
    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Make it; return id and what was observed."""

    @abstractmethod
    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at it; return id, inputs as found (drift included) and what was observed, or None if gone."""

    def update(self, engine: Engine, id_: str, state: Properties, news: Properties) -> Properties:
        """Change it in place; return what was observed. By default only the state changes."""
        return {}

    @abstractmethod
    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Remove it; no error if it is gone."""


class Engine:
    """Connections to the Docker Engine, one a thread, made when first needed."""

    def __init__(self, cancelled: threading.Event) -> None:
        """Use the environment's engine until a host is set."""
        self.host: str | None = None
        self.registry_auth: list[Properties] = []
        self._cancelled = cancelled
        self._local = threading.local()

    @property
    def api(self) -> Any:
        """Low-level client of this thread, `docker.APIClient` (whose stubs leave half of it untyped).

        Raises:
            ProviderError: if no engine answers.
        """
        if not hasattr(self._local, "api"):
            try:
                client = (
                    docker.DockerClient(base_url=self.host, timeout=_ENGINE_TIMEOUT)
                    if self.host
                    else docker.from_env(timeout=_ENGINE_TIMEOUT)
                )
            except DockerException as error:
                raise ProviderError(f"no Docker Engine answers: {error}") from error
            self._local.api = client.api
        return self._local.api

    @contextmanager
    def acting(self, what: str) -> Iterator[Any]:
        """Run one step; an error of the engine names the step.

        Raises:
            ProviderError: if the engine refuses.
        """
        try:
            yield self.api
        except APIError as error:
            raise ProviderError(f"unable to {what}: {error.explanation or error}") from error

    def found(self, inspect: Callable[[], Any]) -> Any | None:
        """Return what `inspect` finds, None if the engine knows no such object."""
        try:
            return inspect()
        except NotFound:
            return None
        except APIError as error:
            raise ProviderError(f"unable to inspect: {error.explanation or error}") from error

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Poll until `condition` holds; False if it does not within `timeout` seconds.

        Raises:
            ProviderError: if the operation is cancelled.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            if self._cancelled.wait(_POLL):
                raise ProviderError("cancelled")
        return True

    def remove(self, what: str, act: Callable[[], Any]) -> None:
        """Remove an object; one that is gone is no error, one in use is tried again for 30 s."""
        refusal = ""

        def gone() -> bool:
            nonlocal refusal
            try:
                act()
            except NotFound:
                return True
            except APIError as error:
                refusal = str(error.explanation or error)
                if any(it in refusal for it in ("active endpoints", "in use", "already in progress")):
                    return False
                raise ProviderError(f"unable to remove {what}: {refusal}") from error
            return True

        if not self.wait_for(gone, _REMOVAL_TIMEOUT):
            raise ProviderError(f"unable to remove {what}: {refusal}")

    def auth(self, registry: str) -> dict[str, str] | None:
        """Return the login for a registry by the provider's configuration, None to use the client's own."""
        for entry in self.registry_auth:
            address = str(entry.get("address", "")).removeprefix("https://").rstrip("/")
            if address == registry and "username" in entry:
                return {"username": entry["username"], "password": entry.get("password", "")}
        return None


def labels(inputs: Properties) -> dict[str, str]:
    """Convert the SDK's list of labels to a mapping."""
    return {item["label"]: item.get("value", "") for item in inputs.get("labels") or []}


def pull_image(engine: Engine, name: str) -> None:
    """Pull an image unless the engine has it.

    Raises:
        ProviderError: if it can't be pulled.
    """
    if engine.found(lambda: engine.api.inspect_image(name)) is not None:
        return
    repository, tag = parse_repository_tag(name)
    with engine.acting(f"pull image {name}") as api:
        api.pull(repository, tag or "latest", auth_config=engine.auth(resolve_repository_name(repository)[0]))
