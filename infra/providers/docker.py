"""Stand-in for the official `docker` plugin where that can't be installed: the same tokens, inputs and rules.

Replacement rules, defaults and meanings follow the official provider (terraform-provider-docker behind
pulumi-docker 5.x), so that a program can't tell which of the two answers. What isn't supported is refused at
check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from docker.types import IPAMConfig, IPAMPool
from docker.utils import parse_repository_tag
from pulumi.runtime.rpc import UNKNOWN

from infra.providers.docker_container import Container
from infra.providers.docker_engine import Engine, Handler, labels, pull_image, unsupported
from infra.providers.server import (
    Current,
    Diff,
    Failure,
    Kind,
    Properties,
    Provider,
    ProviderError,
    Resource,
    is_unknown,
)
from infra.providers.shapes import resource_shape

SDK = "pulumi_docker"
_SUFFIX_DIGITS = 7


class Network(Handler):
    """A network of the engine."""

    token = "docker:index/network:Network"  # noqa: S105 - a type token
    defaults: ClassVar = {"ipamDriver": "default"}
    unordered = frozenset({"labels", "ipamConfigs"})
    observed = frozenset({"driver", "internal", "options", "ipamConfigs"})

    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Create the network; a second one of the same name is refused."""
        pools = [
            IPAMPool(
                subnet=item.get("subnet"),
                iprange=item.get("ipRange"),
                gateway=item.get("gateway"),
                aux_addresses=item.get("auxAddress"),
            )
            for item in inputs.get("ipamConfigs") or []
        ]
        with engine.acting(f"create network {inputs['name']}") as api:
            made = api.create_network(
                inputs["name"],
                driver=inputs.get("driver"),
                options=inputs.get("options"),
                ipam=IPAMConfig(inputs["ipamDriver"], pools, inputs.get("ipamOptions")),
                check_duplicate=True,
                internal=inputs.get("internal", False),
                labels=labels(inputs),
                enable_ipv6=inputs.get("ipv6", False),
                attachable=inputs.get("attachable"),
                ingress=inputs.get("ingress"),
            )
            return made["Id"], _network_state(api.inspect_network(made["Id"]))

    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at the network."""
        found = engine.found(lambda: engine.api.inspect_network(id_))
        if found is None:
            return None
        return found["Id"], {**inputs, "name": found["Name"]}, _network_state(found)

    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Remove the network once nothing is connected to it any more."""
        engine.remove(f"network {state.get('name', id_)}", lambda: engine.api.remove_network(id_))


def _network_state(found: Mapping[str, Any]) -> Properties:
    return {
        "driver": found["Driver"],
        "internal": found["Internal"],
        "options": found["Options"] or {},
        "scope": found["Scope"],
        "ipamConfigs": [
            {"subnet": item.get("Subnet", ""), "gateway": item.get("Gateway", "")}
            for item in found["IPAM"]["Config"] or []
        ],
    }


class Volume(Handler):
    """A volume of the engine; its id is its name."""

    token = "docker:index/volume:Volume"  # noqa: S105 - a type token
    unordered = frozenset({"labels"})
    observed = frozenset({"driver"})
    unsupported = frozenset({"cluster"})

    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Create the volume; one that is there already is taken, as the engine does."""
        with engine.acting(f"create volume {inputs['name']}") as api:
            made = api.create_volume(
                inputs["name"],
                driver=inputs.get("driver"),
                driver_opts=inputs.get("driverOpts"),
                labels=labels(inputs),
            )
        return made["Name"], _volume_state(made)

    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at the volume."""
        found = engine.found(lambda: engine.api.inspect_volume(id_))
        return (
            None
            if found is None
            else (found["Name"], {**inputs, "name": found["Name"]}, _volume_state(found))
        )

    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Remove the volume once no container uses it."""
        engine.remove(f"volume {id_}", lambda: engine.api.remove_volume(id_))


def _volume_state(found: Mapping[str, Any]) -> Properties:
    return {"driver": found["Driver"], "mountpoint": found["Mountpoint"]}


class RemoteImage(Handler):
    """An image that the engine has, pulled where it hasn't; its id is image id and name."""

    token = "docker:index/remoteImage:RemoteImage"  # noqa: S105 - a type token
    updatable = frozenset({"keepLocally", "forceRemove"})
    unordered = frozenset({"pullTriggers"})
    unsupported = frozenset({"build", "platform"})
    auto_name = False

    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Pull the image unless the engine has it."""
        name = inputs["name"]
        pull_image(engine, name)
        found = engine.found(lambda: engine.api.inspect_image(name))
        if found is None:
            raise ProviderError(f"unable to find image {name} after pulling it")
        return found["Id"] + name, _image_state(found)

    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at the image by its name."""
        name = inputs.get("name") or id_.removeprefix("sha256:")[64:]
        found = engine.found(lambda: engine.api.inspect_image(name))
        return None if found is None else (found["Id"] + name, {**inputs, "name": name}, _image_state(found))

    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Remove the image from the engine unless it is to be kept."""
        if not state.get("keepLocally"):
            force = bool(state.get("forceRemove"))
            engine.remove(
                f"image {state['name']}", lambda: engine.api.remove_image(state["name"], force=force)
            )


def _image_state(found: Mapping[str, Any]) -> Properties:
    return {"imageId": found["Id"], "repoDigest": next(iter(found["RepoDigests"] or []), "")}


class Tag(Handler):
    """A second name of an image that the engine has."""

    token = "docker:index/tag:Tag"  # noqa: S105 - a type token
    unordered = frozenset({"tagTriggers"})
    auto_name = False

    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Tag the image."""
        source, target = inputs["sourceImage"], inputs["targetImage"]
        repository, tag = parse_repository_tag(target)
        with engine.acting(f"tag {source} as {target}") as api:
            api.tag(source, repository, tag or "latest")
            return f"{source}.{target}", {"sourceImageId": api.inspect_image(source)["Id"]}

    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at the target."""
        found = engine.found(lambda: engine.api.inspect_image(inputs.get("targetImage", "")))
        return None if found is None else (id_, inputs, {"sourceImageId": found["Id"]})

    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Remove the second name."""
        engine.remove(f"tag {state['targetImage']}", lambda: engine.api.remove_image(state["targetImage"]))


class DockerProvider(Provider):
    """Dispatches to the handlers; what is common to all types is here."""

    _options = frozenset({"host", "registryAuth", "disableDockerDaemonCheck"})

    def __init__(self) -> None:
        """Nothing is connected to before it is needed, so that a preview runs without an engine."""
        super().__init__()
        self._engine = Engine(self.cancelled)
        self._handlers: dict[str, Handler] = {
            it.token: it for it in (Network(), Volume(), RemoteImage(), Tag(), Container())
        }

    def check_config(self, inputs: Properties) -> list[Failure]:
        """Accept what the stand-in honours and refuse the rest."""
        return [
            Failure(key, f"the stand-in for the docker plugin knows {', '.join(sorted(self._options))} only")
            for key in sorted(set(inputs) - self._options)
        ]

    def configure(self, inputs: Properties) -> None:
        """Take the engine's address and registry logins."""
        self._engine.host = inputs.get("host") or None
        auth = inputs.get("registryAuth") or []
        self._engine.registry_auth = json.loads(auth) if isinstance(auth, str) else auth

    def check(
        self, resource: Resource, olds: Properties, news: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        """Refuse unknown and unsupported properties; give a name to what has none."""
        handler = self._handler(resource)
        failures = resource_shape(SDK, resource.type).check(news)
        failures += [unsupported(key) for key in sorted(handler.unsupported & set(news))]
        inputs = {key: value for key, value in news.items() if not key.startswith("__")}
        if not failures:
            failures += handler.check(inputs)
        if handler.auto_name and inputs.get("name") is None:
            kept = olds.get("name") if "name" in olds.get("__defaults", []) else None
            inputs["name"] = kept or f"{resource.name}-{seed.hex()[:_SUFFIX_DIGITS]}"
            inputs["__defaults"] = ["name"]
        return inputs, failures

    def diff(self, resource: Resource, old_inputs: Properties, state: Properties, news: Properties) -> Diff:
        """Compare with the state, which a refresh brings up to date."""
        handler = self._handler(resource)
        kinds: dict[str, Kind] = {}
        for key in sorted({*old_inputs, *news, *handler.defaults}):
            if key.startswith("__"):
                continue
            old = _normal(state.get(key, handler.defaults.get(key)), key in handler.unordered)
            new = _normal(news.get(key, handler.defaults.get(key)), key in handler.unordered)
            if old != new or is_unknown(new):
                kinds[key] = _kind(old, new, replace=key not in handler.updatable)
        fixed_name = "name" not in news.get("__defaults", []) and news.get("name") == state.get("name")
        return Diff(kinds, delete_before_replace=handler.auto_name and fixed_name)

    def preview(self, resource: Resource, state: Properties, news: Properties) -> Properties:
        """Outputs that only the engine knows are unknown before a create and stay as they are then."""
        handler = self._handler(resource)
        computed = (resource_shape(SDK, resource.type).outputs | handler.observed) - set(handler.defaults)
        computed -= set(resource_shape(SDK, resource.type).inputs.fields) - handler.observed
        known = state if handler.keeps(state, news) else {}
        return _state(handler, news, {key: known.get(key, UNKNOWN) for key in computed})

    def create(self, resource: Resource, inputs: Properties) -> tuple[str, Properties]:
        """Create through the handler."""
        handler = self._handler(resource)
        id_, observed = handler.create(self._engine, {**handler.defaults, **inputs})
        return id_, _state(handler, inputs, observed)

    def read(self, resource: Resource, id_: str, inputs: Properties, state: Properties) -> Current | None:
        """Read through the handler."""
        handler = self._handler(resource)
        found = handler.read(self._engine, id_, inputs)
        if found is None:
            return None
        found_id, found_inputs, observed = found
        return Current(found_id, found_inputs, _state(handler, found_inputs, observed))

    def update(self, resource: Resource, id_: str, state: Properties, news: Properties) -> Properties:
        """Update through the handler."""
        handler = self._handler(resource)
        observed = handler.update(self._engine, id_, state, {**handler.defaults, **news})
        return _state(handler, news, {**self.preview(resource, state, news), **observed})

    def delete(self, resource: Resource, id_: str, state: Properties) -> None:
        """Delete through the handler."""
        self._handler(resource).delete(self._engine, id_, state)

    def _handler(self, resource: Resource) -> Handler:
        handler = self._handlers.get(resource.type)
        if handler is None:
            raise ProviderError(
                f"{resource.type} is not supported by the stand-in for the docker plugin;"
                f" supported: {', '.join(sorted(self._handlers))}"
            )
        return handler


def _state(handler: Handler, inputs: Properties, observed: Properties) -> Properties:
    known = {key: value for key, value in inputs.items() if value is not None and not key.startswith("__")}
    return {**observed, **handler.defaults, **known}


def _normal(value: Any, unordered: bool) -> Any:
    """Return `value` so that equal meanings compare equal: nothing, empty and null are the same."""
    if isinstance(value, dict):
        return {
            key: it for key, item in value.items() if (it := _normal(item, unordered)) is not None
        } or None
    if isinstance(value, list):
        members = [_normal(item, unordered) for item in value]
        if unordered:
            members.sort(key=lambda member: json.dumps(member, sort_keys=True))
        return members or None
    return None if value == "" else value


def _kind(old: Any, new: Any, *, replace: bool) -> Kind:
    if old is None:
        return Kind.ADD_REPLACE if replace else Kind.ADD
    if new is None:
        return Kind.DELETE_REPLACE if replace else Kind.DELETE
    return Kind.UPDATE_REPLACE if replace else Kind.UPDATE
