"""Serve a resource provider written in Python to the Pulumi engine.

The SDK's own provider server passes unknown values as plain strings and no old inputs to `diff`; so this one
stands directly on the SDK's generated gRPC service. Secrets are not accepted on the wire: the engine then
marks every output secret whose input of the same name is.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

Properties = dict[str, Any]
_T = TypeVar("_T")

# The engine's limit; its messages carry whole resources.
_MAX_MESSAGE = 400 * 1024 * 1024
_ENGINE_KEYS = ("version", "pluginDownloadURL")


class ProviderError(Exception):
    """Something the operator can act on; shown as it is, without a traceback."""


class Kind(IntEnum):
    """How one property differs, and whether that needs a new resource."""

    ADD = provider_pb2.PropertyDiff.ADD
    ADD_REPLACE = provider_pb2.PropertyDiff.ADD_REPLACE
    DELETE = provider_pb2.PropertyDiff.DELETE
    DELETE_REPLACE = provider_pb2.PropertyDiff.DELETE_REPLACE
    UPDATE = provider_pb2.PropertyDiff.UPDATE
    UPDATE_REPLACE = provider_pb2.PropertyDiff.UPDATE_REPLACE

    @property
    def replaces(self) -> bool:
        """Whether the resource must be replaced."""
        return self in {Kind.ADD_REPLACE, Kind.DELETE_REPLACE, Kind.UPDATE_REPLACE}


@dataclass(frozen=True)
class Failure:
    """An input that is refused: its path and why."""

    property: str
    reason: str


@dataclass(frozen=True)
class Resource:
    """The resource that a request is about; `timeout` in seconds, 0 for none given."""

    urn: str
    timeout: float = 0

    @property
    def type(self) -> str:
        """Type token, such as `docker:index/network:Network`."""
        return self.urn.split("::")[2].split("$")[-1]

    @property
    def name(self) -> str:
        """Name in the program."""
        return self.urn.split("::", 3)[3]


@dataclass(frozen=True)
class Diff:
    """What an update would change, by property path."""

    properties: Mapping[str, Kind] = field(default_factory=dict)
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Current:
    """A resource as it was found."""

    id: str
    inputs: Properties
    state: Properties


class Provider(ABC):
    """Plain-Python side of a provider: JSON-like values, `UNKNOWN` for what is not known yet."""

    def __init__(self) -> None:
        """Start with no request cancelled."""
        self.cancelled = threading.Event()

    def check_config(self, inputs: Properties) -> list[Failure]:
        """Validate the provider's own configuration."""
        return []

    def configure(self, inputs: Properties) -> None:  # noqa: B027 - most providers need no configuration
        """Take the provider's configuration; called once before any resource."""

    @abstractmethod
    def check(
        self, resource: Resource, olds: Properties, news: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        """Validate and complete the inputs of a resource."""

    @abstractmethod
    def diff(self, resource: Resource, old_inputs: Properties, state: Properties, news: Properties) -> Diff:
        """Compare what is there with what is wanted."""

    @abstractmethod
    def preview(self, resource: Resource, state: Properties, news: Properties) -> Properties:
        """Say what the state will be after a create (`state` empty) or an update, without acting."""

    @abstractmethod
    def create(self, resource: Resource, inputs: Properties) -> tuple[str, Properties]:
        """Make a resource; return its id and state."""

    @abstractmethod
    def read(self, resource: Resource, id_: str, inputs: Properties, state: Properties) -> Current | None:
        """Look at a resource; None if it is gone. `inputs` and `state` are empty for an import."""

    @abstractmethod
    def update(self, resource: Resource, id_: str, state: Properties, news: Properties) -> Properties:
        """Change a resource in place; return its state."""

    @abstractmethod
    def delete(self, resource: Resource, id_: str, state: Properties) -> None:
        """Remove a resource; no error if it is gone."""

    def invoke(self, token: str, args: Properties) -> Properties:
        """Call a function of the provider.

        Raises:
            ProviderError: if there is no such function.
        """
        raise ProviderError(f"{token} is not offered by this provider")


def to_properties(struct: struct_pb2.Struct) -> Properties:
    """Convert from the wire; whole numbers become `int`."""
    return {key: _to_value(value) for key, value in struct.fields.items()}


def _to_value(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return to_properties(value.struct_value)
        case "list_value":
            return [_to_value(item) for item in value.list_value.values]
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
        case _:
            return None


def to_struct(properties: Properties) -> struct_pb2.Struct:
    """Convert to the wire; properties that are None are left out."""
    struct = struct_pb2.Struct()
    struct.update({key: value for key, value in properties.items() if value is not None})
    return struct


def is_unknown(value: object) -> bool:
    """Whether `value` is, or holds, something that is known only after an update."""
    if isinstance(value, dict):
        return any(map(is_unknown, value.values()))
    if isinstance(value, list):
        return any(map(is_unknown, value))
    return bool(value == UNKNOWN)


class _Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Translates between the engine's messages and a `Provider`."""

    def __init__(self, provider: Provider, version: str) -> None:
        self._provider = provider
        self._version = version

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._provider.cancelled.set()
        return empty_pb2.Empty()

    def GetSchema(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, _no_schema)

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        news = to_properties(request.news)
        failures = _answer(context, lambda: self._provider.check_config(_configuration(news)))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(failures))

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        olds = to_properties(request.old_inputs) or to_properties(request.olds)
        return _diff_response(_compare(_configuration(olds), _configuration(to_properties(request.news))))

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        _answer(context, lambda: self._provider.configure(_configuration(to_properties(request.args))))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=False, supportsPreview=True, acceptResources=False, acceptOutputs=False
        )

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        inputs, failures = _answer(
            context,
            lambda: self._provider.check(
                Resource(request.urn),
                to_properties(request.olds),
                to_properties(request.news),
                request.randomSeed,
            ),
        )
        return provider_pb2.CheckResponse(inputs=to_struct(inputs), failures=_failures(failures))

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        state, news = to_properties(request.olds), to_properties(request.news)
        old_inputs = to_properties(request.old_inputs)
        for path in request.ignoreChanges:
            if path in old_inputs:
                news[path] = old_inputs[path]
        diff = _answer(context, lambda: self._provider.diff(Resource(request.urn), old_inputs, state, news))
        return _diff_response(diff)

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        resource, inputs = Resource(request.urn, request.timeout), to_properties(request.properties)
        if request.preview:
            state = _answer(context, lambda: self._provider.preview(resource, {}, inputs))
            return provider_pb2.CreateResponse(id="", properties=to_struct(state))
        id_, state = _answer(context, lambda: self._provider.create(resource, inputs))
        return provider_pb2.CreateResponse(id=id_, properties=to_struct(state))

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        current = _answer(
            context,
            lambda: self._provider.read(
                Resource(request.urn),
                request.id,
                to_properties(request.inputs),
                to_properties(request.properties),
            ),
        )
        if current is None:
            return provider_pb2.ReadResponse(id="")
        return provider_pb2.ReadResponse(
            id=current.id, inputs=to_struct(current.inputs), properties=to_struct(current.state)
        )

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        resource = Resource(request.urn, request.timeout)
        state, news = to_properties(request.olds), to_properties(request.news)
        act: Callable[[], Properties] = (
            (lambda: self._provider.preview(resource, state, news))
            if request.preview
            else (lambda: self._provider.update(resource, request.id, state, news))
        )
        return provider_pb2.UpdateResponse(properties=to_struct(_answer(context, act)))

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        resource = Resource(request.urn, request.timeout)
        _answer(
            context, lambda: self._provider.delete(resource, request.id, to_properties(request.properties))
        )
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        result = _answer(context, lambda: self._provider.invoke(request.tok, to_properties(request.args)))
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(result))
        return response


def _no_schema() -> NoReturn:
    raise ProviderError("this provider has no schema; its SDK is published already")


def _answer(context: grpc.ServicerContext, act: Callable[[], _T]) -> _T:
    try:
        return act()
    except ProviderError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
    raise AssertionError("abort() raises")


def _configuration(inputs: Properties) -> Properties:
    return {key: value for key, value in inputs.items() if key not in _ENGINE_KEYS and key[:2] != "__"}


def _compare(olds: Properties, news: Properties) -> Diff:
    changed = [key for key in {**olds, **news} if olds.get(key) != news.get(key)]
    return Diff(dict.fromkeys(changed, Kind.UPDATE))


def _failures(failures: list[Failure]) -> list[Any]:
    return [provider_pb2.CheckFailure(property=item.property, reason=item.reason) for item in failures]


def _diff_response(diff: Diff) -> Any:
    roots = sorted({path.split(".")[0].split("[")[0] for path in diff.properties})
    responses = provider_pb2.DiffResponse
    return responses(
        changes=provider_pb2.DiffResponse.DIFF_SOME
        if diff.properties
        else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=roots,
        replaces=[path for path, kind in diff.properties.items() if kind.replaces],
        deleteBeforeReplace=diff.delete_before_replace,
        detailedDiff={
            path: provider_pb2.PropertyDiff(kind=kind.value, inputDiff=True)
            for path, kind in diff.properties.items()
        },
        hasDetailedDiff=True,
    )


def serve(provider: Provider, version: str) -> None:
    """Answer the engine until it ends; prints the port first, as the engine expects.

    A provider whose engine was killed ends too, so that it does not go on acting on its own.
    """
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(_Servicer(provider, version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    engine = os.getppid()
    while server.wait_for_termination(timeout=1):
        if os.getppid() != engine:
            os._exit(1)
