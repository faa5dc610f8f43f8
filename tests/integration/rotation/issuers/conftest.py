"""Drivers against the vendors' double, served on 127.0.0.1 under the names that a local stack has."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from infra import local
from infra.config.load import load_file
from infra.config.model import Role
from infra.outputs.export import settings as export
from infra.outputs.model import StackOutputs
from infra.rotation.issuers import Issuer, IssuerError, issuer
from infra.rotation.issuers import http as calls
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology
from reference.vendors.app import create_app
from reference.vendors.faults import Faults
from reference.vendors.settings import Settings
from reference.vendors.store import Store
from tests.unit.vendors.conftest import seeded, settings
from tests.waiting import eventually

CANARY = "c4n4ry"
DIGEST = f"sha256:{'0' * 64}"
IN_USE = {
    "openai-api-key": f"sk-proj-{CANARY}-of-the-service-in-use",
    "openai-admin-key": f"sk-admin-{CANARY}-in-use",
    "supabase-service-role-key": f"sb_secret_{CANARY}0in0use0with0more",
    "supabase-management-token": f"sbp_{CANARY}",
    "vercel-token": f"{CANARY}vercel",
    "slack-token": f"xoxb-{CANARY}",
    "slack-webhook-status": f"https://{local.VENDORS.host}/slack/services/T1/B1/{CANARY}",
    "pagerduty-token": f"{CANARY}0routing",
    "statuspage-token": f"{CANARY}-statuspage",
    "otlp-token": f"{CANARY}-otlp",
    "registry-password": f"{CANARY}-registry",
}
SEED = {
    "openai": {"api_keys": [IN_USE["openai-api-key"]], "admin_keys": [IN_USE["openai-admin-key"]]},
    "supabase": {
        "service_role_keys": [IN_USE["supabase-service-role-key"]],
        "management_tokens": [IN_USE["supabase-management-token"]],
    },
    "vercel": {"tokens": [IN_USE["vercel-token"]]},
    "slack": {"tokens": [IN_USE["slack-token"]], "webhooks": {f"T1/B1/{CANARY}": "#status"}},
    "pagerduty": {"routing_keys": [IN_USE["pagerduty-token"]], "tokens": []},
    "statuspage": {"tokens": [IN_USE["statuspage-token"]]},
}


@dataclass
class Secrets:
    """Values in use."""

    values: dict[str, str] = field(default_factory=lambda: dict(IN_USE))

    def get(self, name: str) -> str:
        return self.values[name]


def outputs_of(stack: str, **variables: str) -> StackOutputs:
    """Outputs of a stack file as the program makes them, with variables of the service changed."""
    loaded = load_file(stack)
    machines = [(machine.name, machine.region, machine.role) for machine in loaded.hosts.machines]
    projects = {}
    for name, region, role in machines:
        services = topology(Context(stack, loaded, region, Role(role)))
        project = render(services, {image: f"registry/{image}@{DIGEST}" for image in services.images})
        project["env_files"]["agents-service.env"].update(variables)
        projects[name] = project
    host = {"user": "ops", "host_key": "ssh-ed25519 AAAA"}
    return StackOutputs.model_validate(
        {
            "environment": stack,
            "domain": loaded.domain,
            "hosts": [
                {**host, "name": name, "region": region, "role": role, "address": f"127.0.0.{number}"}
                for number, (name, region, role) in enumerate(machines, start=2)
            ],
            "record": {"url": "file:///nowhere"},
            "secretstore": {"driver": "sops"},
            "release": {"image": "registry/agents", "digest": DIGEST, "git_sha": "abc"},
            "projects": projects,
            "settings": export(loaded, []),
        }
    )


class Wire(httpx.BaseTransport):
    """Sends to a port of this machine what is for a host, the address where one is given.

    `lose` drops the answers of a method after they were sent, `asked` has what was sent.
    """

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.lose = ""
        self.asked: list[str] = []
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.extensions.get("address") or request.url.host
        if host not in self.ports:
            raise httpx.ConnectError(f"nobody is at {request.url}")
        self.asked.append(f"{request.method} {request.url.path}")
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self.ports[host])
        response = self._inner.handle_request(
            httpx.Request(
                request.method,
                url,
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )
        if request.method == self.lose:
            response.read()
            response.close()
            raise httpx.RemoteProtocolError(
                f"Server disconnected without sending a response to {request.url}"
            )
        return response

    def __call__(self, address: str | None = None) -> httpx.Client:
        """A client, as drivers open them."""

        def tell(request: httpx.Request) -> None:
            request.extensions = {**request.extensions, **({"address": address} if address else {})}

        return httpx.Client(transport=_Shared(self), event_hooks={"request": [tell]})


class _Shared(httpx.BaseTransport):
    """A client closes its transport; the wire stays."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._wire.handle_request(request)


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Port of an application that runs in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started, "the server", 20.0, interval=0.02)
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@dataclass
class World:
    """The double behind the wire, and what drivers are made of."""

    wire: Wire
    faults: Faults
    outputs: StackOutputs
    secrets: Secrets

    def issuer(self, name: str) -> Issuer:
        return issuer(name, self.outputs, self.secrets, web=self.wire)


@dataclass
class Double:
    """The double, served at a port."""

    store: Store
    faults: Faults
    configured: Settings
    port: int

    def world(self, outputs: StackOutputs) -> World:
        """What it is at its first start, with a wire of its own."""
        seeded(self.store, self.faults, self.configured, SEED)
        return World(Wire({local.VENDORS.host: self.port}), self.faults, outputs, Secrets())


@contextmanager
def running_double(directory: Path) -> Iterator[Double]:
    """A double with its database in a directory."""
    configured = settings(directory / "vendors.sqlite")
    store, faults = Store(configured.database), Faults()
    with served(create_app(store, configured, faults)) as port:
        yield Double(store, faults, configured, port)
    store.close()


@pytest.fixture(scope="session")
def local_outputs() -> StackOutputs:
    return outputs_of("local")


@pytest.fixture(scope="session")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """One for all tests that await every answer."""
    with running_double(tmp_path_factory.mktemp("double")) as double:
        yield double


@pytest.fixture
def world(double: Double, local_outputs: StackOutputs) -> World:
    return double.world(local_outputs)


@pytest.fixture
def own_world(tmp_path: Path, local_outputs: StackOutputs) -> Iterator[World]:
    """A world whose double goes with the test, and with what it still had to answer."""
    with running_double(tmp_path) as double:
        yield double.world(local_outputs)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two tries."""
    monkeypatch.setattr(calls, "_PAUSE", 0.001)


def said_by(call: Callable[[], Any]) -> tuple[IssuerError, str]:
    """The error of a call, and everything that may be shown of it."""
    with pytest.raises(IssuerError) as caught:
        call()
    error = caught.value
    shown = "".join(traceback.format_exception(error))
    return error, f"{error} {error!r} {error.args} {vars(error)} {shown}"
